//! Whether the libraries that computing on a GPU takes are on this machine.
//!
//! They are looked up when the program runs, so that it starts on a machine without them. cudarc panics where one is
//! missing, hence nothing of it is called before [`present`] has said yes.

use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Where toolkits install themselves, besides what the loader searches by itself.
const FOLDERS: [&str; 3] = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-13/lib64",
    "/opt/cuda/lib64",
];

/// # Errors
/// One sentence that names what is missing and where it comes from.
pub fn present() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(look).clone()
}

fn look() -> Result<(), String> {
    // SAFETY: it opens the library and asks nothing of it.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("there is no NVIDIA driver on this machine: libcuda.so.1 cannot be loaded".to_owned());
    }
    preload();
    // SAFETY: as above.
    if !unsafe { cudarc::cublas::sys::is_culib_present() } {
        return Err(
            "libcublas.so.13 cannot be loaded: install CUDA 13's cuBLAS, say by `pip install nvidia-cublas`, and put \
             its folder (nvidia/cu13/lib) in LD_LIBRARY_PATH"
                .to_owned(),
        );
    }
    Ok(())
}

/// Loads cuBLAS from where toolkits install it; who asks for it by its name later gets what is loaded.
fn preload() {
    for name in ["libcublasLt.so.13", "libcublas.so.13"] {
        for folder in FOLDERS {
            let path = PathBuf::from(folder).join(name);
            if !path.is_file() {
                continue;
            }
            // SAFETY: NVIDIA's libraries do nothing at loading that a program must prepare for.
            if let Ok(library) = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
                // It stays for as long as the program runs.
                std::mem::forget(library);
                break;
            }
        }
    }
}
