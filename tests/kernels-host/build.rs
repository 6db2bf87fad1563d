//! Compiles `kernels/*.cu` with the host's C++ compiler against the headers in `include/`.

use std::path::Path;

fn main() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels");
    let mut sources: Vec<_> = std::fs::read_dir(&kernels)
        .expect("kernels/ lies beside tests/")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    for place in [
        kernels.as_path(),
        Path::new("include"),
        Path::new("src/machine.cpp"),
    ] {
        println!("cargo:rerun-if-changed={}", place.display());
    }
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include("include")
        .include(&kernels)
        // A GPU's sums are checked against f64, not against these flags: but what must be exact must not be fused.
        .flag("-ffp-contract=off")
        .flag("-fno-exceptions")
        .flag("-fno-rtti")
        .flag("-fno-strict-aliasing")
        .flag("-fno-stack-protector")
        .flag("-Wno-unknown-pragmas")
        .flag("-Wno-unused-parameter")
        .flag("-Wno-unused-variable")
        .opt_level(2)
        .debug(false)
        .cargo_metadata(false)
        .file("src/machine.cpp");
    for source in &sources {
        // The compiler knows C++ by its ending.
        let name = source.file_stem().expect("a file has a name").to_string_lossy();
        let wrapper =
            Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join(format!("{name}.cpp"));
        std::fs::write(&wrapper, format!("#include \"{}\"\n", source.display()))
            .expect("OUT_DIR can be written");
        build.file(wrapper);
    }
    build.compile("kernels_on_the_host");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo:rustc-link-search=native={out}");
    // Kernels enter themselves into a table before main: nobody names them, so all must be linked.
    println!("cargo:rustc-link-lib=static:+whole-archive=kernels_on_the_host");
    println!("cargo:rustc-link-lib=dylib=stdc++");
}
