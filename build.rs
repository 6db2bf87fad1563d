//! With feature `cuda`: compiles `kernels/*.cu` by nvcc, machine code for the GPUs at hand today and PTX for later ones,
//! to be embedded in the program. Without it: nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

/// Machine code for Ampere, Ada and Hopper; what comes after compiles the last one's PTX when it first starts.
const TARGETS: [&str; 4] = [
    "arch=compute_80,code=sm_80",
    "arch=compute_89,code=sm_89",
    "arch=compute_90,code=sm_90",
    "arch=compute_90,code=compute_90",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(reason) = compile_all(&out) {
        println!("cargo::error={reason}");
        std::process::exit(1);
    }
}

fn compile_all(out: &Path) -> Result<(), String> {
    let mut sources: Vec<PathBuf> = fs::read_dir("kernels")
        .map_err(|e| format!("the folder kernels cannot be read: {e}"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "cu"))
        .collect();
    sources.sort();
    let nvcc = nvcc()?;
    let waiting = Mutex::new(sources.clone());
    let failures = Mutex::new(Vec::new());
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok());
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(2usize).clamp(1, sources.len().max(1)) {
            scope.spawn(|| {
                while let Some(source) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
                    if let Err(reason) = compile(&nvcc, &source, out)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(reason);
                    }
                }
            });
        }
    });
    if let Some(reason) = failures
        .into_inner()
        .ok()
        .and_then(|failures| failures.into_iter().next())
    {
        return Err(reason);
    }
    let modules: String = sources
        .iter()
        .map(|source| {
            let name = stem(source);
            format!("    (\"{name}\", include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.fatbin\"))),\n")
        })
        .collect();
    let text = format!("pub const MODULES: &[(&str, &[u8])] = &[\n{modules}];\n");
    fs::write(out.join("modules.rs"), text).map_err(|e| format!("{} cannot be written: {e}", out.display()))
}

fn compile(nvcc: &Path, source: &Path, out: &Path) -> Result<(), String> {
    let target = out.join(stem(source)).with_extension("fatbin");
    let mut command = Command::new(nvcc);
    command.args(["-fatbin", "-std=c++17", "-O3", "-Ikernels", "-o"]);
    command.arg(&target).arg(source);
    for code in TARGETS {
        command.arg(format!("-gencode={code}"));
    }
    let run = command
        .output()
        .map_err(|e| format!("{} cannot be run: {e}", nvcc.display()))?;
    if run.status.success() {
        return Ok(());
    }
    eprintln!("{}", String::from_utf8_lossy(&run.stderr));
    Err(format!("nvcc could not compile {}, see above", source.display()))
}

fn stem(source: &Path) -> String {
    source
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn nvcc() -> Result<PathBuf, String> {
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    home.into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("nvcc"))
        .find(|nvcc| nvcc.is_file())
        .ok_or_else(|| {
            "feature cuda needs nvcc, which is neither in CUDA_HOME/bin nor in PATH; `eval \"$(scripts/cuda-toolkit.sh \
             DIR)\"` installs one and sets both"
                .to_owned()
        })
}
