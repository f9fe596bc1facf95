//! Compiles `src/library` into the shared library that this crate embeds.
//!
//! Cargo cannot make a crate depend on the `cdylib` of another one, so the compiler is called directly. The library uses `std` only.

use std::path::PathBuf;
use std::process::Command;

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");

    let library = PathBuf::from(variable("OUT_DIR")?).join("libnvidia-ml.so.1");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc
        .args(["--crate-type=cdylib", "--crate-name=nvml_stand_in", "--edition=2024"])
        // The stand-in is the same in debug builds: small to embed, and never an unwinding across the C boundary.
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols", "-Cdebuginfo=0"])
        .args(["--target", &variable("TARGET")?])
        .arg("-o")
        .arg(&library)
        .arg("src/library/lib.rs");
    if let Ok(linker) = variable("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    let status = rustc
        .status()
        .map_err(|error| format!("cannot run {rustc:?}: {error}"))?;
    if !status.success() {
        return Err(format!("{rustc:?} failed: {status}"));
    }
    Ok(())
}
