//! Generates messages, client and server from `proto/`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["inferencemonitor/link/v1/link.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        // What is in it must not be shown; `src/codec/credentials.rs` has the form that may be.
        .skip_debug([".inferencemonitor.link.v1.Credentials"])
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
