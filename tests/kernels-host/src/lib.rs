//! The CUDA kernels' own sources (`kernels/*.cu`), compiled for the CPU and run thread by thread: for tests where there
//! is no GPU.
//!
//! [`launch`] is `cuLaunchKernel` without the driver. It finds what a GPU would pass over: a read or write outside of
//! a [`Buffer`] or of shared memory, a barrier that only some threads reach, shared memory read before it is written (it
//! begins as NaN) and, when a launch is repeated in the other [`Order`], results that depend on which thread runs first.

mod buffer;

use std::ffi::{CStr, CString, c_char, c_int, c_void};

pub use buffer::Buffer;

unsafe extern "C" {
    fn kernels_host_signature(name: *const c_char) -> *const c_char;
    fn kernels_host_names(each: extern "C" fn(*mut c_void, *const c_char), context: *mut c_void);
    fn kernels_host_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared: u32,
        args: *mut *mut c_void,
        backwards: c_int,
    ) -> *const c_char;
}

/// Which blocks, warps and lanes run first. A kernel that waits where it must gives the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forwards,
    Backwards,
}

/// The kinds of a kernel's arguments, one letter each: `p` pointer, `u` and `l` unsigned of 32 and 64 bits, `f` float.
/// `None` when no kernel has the name.
pub fn signature(kernel: &str) -> Option<&'static str> {
    let name = CString::new(kernel).ok()?;
    // SAFETY: the name ends in a zero; what comes back is null or a static string.
    unsafe {
        let letters = kernels_host_signature(name.as_ptr());
        (!letters.is_null()).then(|| CStr::from_ptr(letters).to_str().expect("signatures are ASCII"))
    }
}

/// The names of all kernels, sorted.
pub fn names() -> Vec<String> {
    extern "C" fn push(context: *mut c_void, name: *const c_char) {
        // SAFETY: `context` is the vector below, `name` a string that ends in a zero.
        unsafe {
            let names = &mut *context.cast::<Vec<String>>();
            names.push(CStr::from_ptr(name).to_string_lossy().into_owned());
        }
    }
    let mut names: Vec<String> = Vec::new();
    // SAFETY: the vector outlives the call.
    unsafe { kernels_host_names(push, (&raw mut names).cast()) };
    names
}

/// Runs a kernel over a grid. `args` point at the arguments' values, as for `cuLaunchKernel`.
///
/// # Errors
/// What the kernel did wrong, with its name.
///
/// # Safety
/// `args` are as many as the kernel's [`signature`] has letters and of those kinds, and their pointers point at memory
/// of a [`Buffer`] or at memory that has what the kernel reads and writes.
pub unsafe fn launch(
    kernel: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    args: &mut [*mut c_void],
    order: Order,
) -> Result<(), String> {
    let letters = signature(kernel).ok_or_else(|| format!("no kernel is called {kernel}"))?;
    if letters.len() != args.len() {
        return Err(format!(
            "{kernel} takes {} arguments and was given {}",
            letters.len(),
            args.len()
        ));
    }
    let name = CString::new(kernel).expect("the name was found");
    // SAFETY: grid and block have three numbers each; the rest is the caller's promise.
    let failure = unsafe {
        kernels_host_launch(
            name.as_ptr(),
            grid.as_ptr(),
            block.as_ptr(),
            shared,
            args.as_mut_ptr(),
            c_int::from(order == Order::Backwards),
        )
    };
    if failure.is_null() {
        return Ok(());
    }
    // SAFETY: what is not null is a static string.
    let reason = unsafe { CStr::from_ptr(failure) }.to_string_lossy();
    Err(format!("{kernel}, grid {grid:?}, block {block:?}: {reason}"))
}
