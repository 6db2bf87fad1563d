//! Kernels compiled for the CPU, in the place of a GPU.

use std::ffi::c_void;

use kernels_host::{Buffer, Order};

use super::bench::{Argument, Bench, Launch};

/// Runs every launch twice, forwards and backwards, and refuses results that differ: they would depend on which thread
/// comes first.
#[derive(Default)]
pub struct Cpu {
    inputs: Vec<Buffer>,
    changing: Vec<Buffer>,
}

impl Cpu {
    fn contents(&self) -> Vec<Vec<u8>> {
        self.changing
            .iter()
            .map(|buffer| buffer.bytes().to_vec())
            .collect()
    }

    fn run(&self, launch: &Launch, arguments: &[Argument], order: Order) -> Result<(), String> {
        let mut values: Vec<u64> = arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Pointer(address) => address,
                Argument::U32(value) => u64::from(value),
                Argument::U64(value) => value,
                Argument::F32(value) => u64::from(value.to_bits()),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| (&raw mut *v).cast()).collect();
        // SAFETY: the kinds were compared with the kernel's, and addresses are null or those of this bench's buffers,
        // whose ends are guarded. Values are little-endian, so a 32-bit one begins where its 64 bits do.
        unsafe {
            kernels_host::launch(
                &launch.kernel,
                launch.grid,
                [launch.block, 1, 1],
                launch.shared,
                &mut pointers,
                order,
            )
        }
    }
}

impl Bench for Cpu {
    fn input(&mut self, bytes: &[u8]) -> Result<u64, String> {
        let mut buffer = Buffer::holding(bytes);
        buffer.protect();
        self.inputs.push(buffer);
        Ok(self.inputs[self.inputs.len() - 1].address())
    }

    fn changing(&mut self, bytes: &[u8]) -> Result<u64, String> {
        self.changing.push(Buffer::holding(bytes));
        Ok(self.changing[self.changing.len() - 1].address())
    }

    fn download(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>, String> {
        self.changing
            .iter()
            .find(|buffer| buffer.address() == address && bytes <= buffer.bytes().len())
            .map(|buffer| buffer.bytes()[..bytes].to_vec())
            .ok_or_else(|| format!("no {bytes} bytes lie at {address:#x}"))
    }

    fn launch(&mut self, launch: &Launch, arguments: &[Argument]) -> Result<(), String> {
        let letters: String = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Pointer(_) => 'p',
                Argument::U32(_) => 'u',
                Argument::U64(_) => 'l',
                Argument::F32(_) => 'f',
            })
            .collect();
        let wanted = kernels_host::signature(&launch.kernel);
        if wanted != Some(letters.as_str()) {
            return Err(format!(
                "{} takes {wanted:?} and was given {letters}",
                launch.kernel
            ));
        }
        let before = self.contents();
        self.run(launch, arguments, Order::Forwards)?;
        let forwards = self.contents();
        for (buffer, before) in self.changing.iter_mut().zip(&before) {
            buffer.bytes_mut().copy_from_slice(before);
        }
        self.run(launch, arguments, Order::Backwards)?;
        if let Some(number) = self.contents().iter().zip(&forwards).position(|(a, b)| a != b) {
            return Err(format!(
                "{} writes other bytes to buffer {number} when its threads run backwards: a barrier is missing",
                launch.kernel
            ));
        }
        if self.changing.iter().any(|buffer| !buffer.slack_is_whole()) {
            return Err(format!("{} writes past a buffer's end", launch.kernel));
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.inputs.clear();
        self.changing.clear();
    }
}
