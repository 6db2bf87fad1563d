//! A device to test with: the kernels' own sources, compiled for the CPU by `tests/kernels-host`, in memory of this
//! process. Products that a GPU leaves to cuBLAS are plain sums.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use kernels_host::Order;

use super::device::{Address, Arg, Device, DeviceError, Graph, Half, Launch, Product};

/// Where allocations begin, as CUDA's do.
const ALIGNMENT: usize = 256;

#[derive(Default)]
struct State {
    /// Bytes of each allocation, by address.
    allocated: BTreeMap<u64, u64>,
    in_use: u64,
    most_in_use: u64,
    /// What is noted since a capture began.
    noted: Option<Vec<Work>>,
    launches: u64,
    replays: u64,
}

#[derive(Clone)]
enum Work {
    Launch(Launch, Vec<Arg>),
    Multiply(Product),
}

pub struct Emulated {
    state: Mutex<State>,
    /// Bytes there are.
    pub size: u64,
    pub most_shared: u32,
}

impl Default for Emulated {
    fn default() -> Self {
        Self::with_bytes(4 << 30)
    }
}

impl Emulated {
    pub fn with_bytes(size: u64) -> Self {
        Self {
            state: Mutex::default(),
            size,
            // Hopper's.
            most_shared: 227 << 10,
        }
    }

    /// Launches and products done, and graphs replayed.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.launches, state.replays)
    }

    pub fn in_use(&self) -> u64 {
        self.state().in_use
    }

    pub fn most_in_use(&self) -> u64 {
        self.state().most_in_use
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &str, reason: String) -> DeviceError {
        DeviceError::Failed {
            device: self.name().to_owned(),
            what: what.to_owned(),
            reason,
        }
    }

    /// Whether all the bytes from `at` on lie in one allocation.
    fn check(&self, at: Address, bytes: u64, what: &str) {
        let state = self.state();
        let before = state.allocated.range(..=at.0).next_back();
        let inside = before.is_some_and(|(from, length)| at.0 + bytes <= from + length);
        assert!(
            inside,
            "{what}: {bytes} bytes at {at:?} are not in one allocation"
        );
    }

    fn not_while_noting(&self, what: &str) {
        assert!(self.state().noted.is_none(), "{what} while a graph is captured");
    }

    fn do_or_note(&self, work: Work) -> Result<(), DeviceError> {
        if let Some(noted) = &mut self.state().noted {
            noted.push(work);
            return Ok(());
        }
        self.perform(&work)
    }

    fn perform(&self, work: &Work) -> Result<(), DeviceError> {
        self.state().launches += 1;
        match work {
            Work::Launch(launch, args) => self.run(launch, args),
            Work::Multiply(product) => {
                multiply(product);
                Ok(())
            }
        }
    }

    fn run(&self, launch: &Launch, args: &[Arg]) -> Result<(), DeviceError> {
        let signature = kernels_host::signature(&launch.kernel);
        let signature = signature.unwrap_or_else(|| panic!("there is no kernel {}", launch.kernel));
        let given: String = args.iter().map(letter).collect();
        assert_eq!(given, signature, "the arguments of {}", launch.kernel);
        for arg in args {
            if let Arg::Pointer(at) = arg
                && at.0 != 0
            {
                self.check(*at, 0, &launch.kernel);
            }
        }
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|arg| match arg {
                Arg::Pointer(Address(value)) | Arg::U64(value) => std::ptr::from_ref(value) as *mut c_void,
                Arg::U32(value) => std::ptr::from_ref(value) as *mut c_void,
                Arg::F32(value) => std::ptr::from_ref(value) as *mut c_void,
            })
            .collect();
        // SAFETY: the arguments are of the kinds that the signature names, and point into what was allocated here.
        unsafe {
            kernels_host::launch(
                &launch.kernel,
                launch.grid,
                launch.block,
                launch.shared,
                &mut pointers,
                Order::Forwards,
            )
        }
        .map_err(|reason| self.failed(&format!("launch {}", launch.kernel), reason))
    }
}

fn letter(arg: &Arg) -> char {
    match arg {
        Arg::Pointer(_) => 'p',
        Arg::U32(_) => 'u',
        Arg::U64(_) => 'l',
        Arg::F32(_) => 'f',
    }
}

/// Sums in one order for every row, whatever the number of rows.
fn multiply(product: &Product) {
    let Product {
        rows,
        inputs,
        outputs,
        ..
    } = *product;
    let number = |at: Address, index: usize| {
        let bits = unsafe { *(at.0 as *const u16).add(index) };
        match product.half {
            Half::F16 => f16::from_bits(bits).to_f32(),
            Half::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    };
    let floats = |at: Address, count: usize| -> Vec<f32> { (0..count).map(|i| number(at, i)).collect() };
    let (x, weight) = (
        floats(product.x, rows * inputs),
        floats(product.weight, outputs * inputs),
    );
    for row in 0..rows {
        for output in 0..outputs {
            let (x, weight) = (&x[row * inputs..][..inputs], &weight[output * inputs..][..inputs]);
            let sum: f32 = x.iter().zip(weight).map(|(x, w)| x * w).sum();
            let place = row * product.out_stride + output;
            unsafe {
                match (product.wide, product.half) {
                    (true, _) => *(product.out.0 as *mut f32).add(place) = sum,
                    (false, Half::F16) => {
                        *(product.out.0 as *mut u16).add(place) = f16::from_f32(sum).to_bits()
                    }
                    (false, Half::Bf16) => {
                        *(product.out.0 as *mut u16).add(place) = bf16::from_f32(sum).to_bits()
                    }
                }
            }
        }
    }
}

fn layout(bytes: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(bytes.max(1), ALIGNMENT).unwrap()
}

impl Device for Emulated {
    fn name(&self) -> &str {
        "cuda:0 (on the CPU)"
    }

    fn most_shared(&self) -> u32 {
        self.most_shared
    }

    fn free_bytes(&self) -> Result<u64, DeviceError> {
        Ok(self.size - self.state().in_use)
    }

    fn allocate(&self, bytes: u64, what: &str) -> Result<Address, DeviceError> {
        self.not_while_noting("an allocation");
        let mut state = self.state();
        if state.in_use + bytes > self.size {
            return Err(DeviceError::OutOfMemory {
                device: self.name().to_owned(),
                what: what.to_owned(),
                wanted: bytes,
                free: self.size - state.in_use,
            });
        }
        let at = unsafe { std::alloc::alloc(layout(bytes as usize)) };
        assert!(!at.is_null());
        // What nobody has written is not a number, in f32 and in both half floats.
        unsafe { at.write_bytes(0xFF, bytes as usize) };
        state.allocated.insert(at as u64, bytes);
        state.in_use += bytes;
        state.most_in_use = state.most_in_use.max(state.in_use);
        Ok(Address(at as u64))
    }

    unsafe fn free(&self, at: Address) {
        let mut state = self.state();
        let bytes = state
            .allocated
            .remove(&at.0)
            .expect("only what was allocated is freed");
        state.in_use -= bytes;
        unsafe { std::alloc::dealloc(at.0 as *mut u8, layout(bytes as usize)) }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        Ok(NonNull::new(unsafe { std::alloc::alloc(layout(bytes)) }).unwrap())
    }

    unsafe fn free_pinned(&self, at: NonNull<u8>, bytes: usize) {
        unsafe { std::alloc::dealloc(at.as_ptr(), layout(bytes)) }
    }

    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), DeviceError> {
        self.not_while_noting("an upload");
        self.check(to, from.len() as u64, "an upload");
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.0 as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<(), DeviceError> {
        self.not_while_noting("a download");
        self.check(from, to.len() as u64, "a download");
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: u64) -> Result<(), DeviceError> {
        self.not_while_noting("a copy");
        self.check(from, bytes, "a copy");
        self.check(to, bytes, "a copy");
        assert!(
            to.0 + bytes <= from.0 || from.0 + bytes <= to.0,
            "a copy overlaps"
        );
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, to.0 as *mut u8, bytes as usize) };
        Ok(())
    }

    unsafe fn fill(&self, to: Address, byte: u8, bytes: u64) -> Result<(), DeviceError> {
        self.not_while_noting("a fill");
        self.check(to, bytes, "a fill");
        unsafe { (to.0 as *mut u8).write_bytes(byte, bytes as usize) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch, args: &[Arg]) -> Result<(), DeviceError> {
        self.do_or_note(Work::Launch(launch.clone(), args.to_vec()))
    }

    unsafe fn multiply(&self, product: &Product) -> Result<(), DeviceError> {
        let number = if product.wide { 4 } else { 2 };
        self.check(
            product.x,
            (product.rows * product.inputs * 2) as u64,
            "a product's x",
        );
        self.check(
            product.weight,
            (product.outputs * product.inputs * 2) as u64,
            "a product's weights",
        );
        let last = (product.rows - 1) * product.out_stride + product.outputs;
        self.check(product.out, (last * number) as u64, "a product's result");
        self.do_or_note(Work::Multiply(*product))
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.not_while_noting("a capture");
        self.state().noted = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<Graph, DeviceError> {
        let noted = self.state().noted.take();
        Ok(Box::new(noted.expect("a capture has begun")))
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<(), DeviceError> {
        self.not_while_noting("a replay");
        self.state().replays += 1;
        let work: &Vec<Work> = graph.downcast_ref().unwrap();
        work.iter().try_for_each(|work| self.perform(work))
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.not_while_noting("a wait");
        Ok(())
    }
}
