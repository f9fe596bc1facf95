//! Generates the client of the kubelet's PodResources API from `proto/`, without protoc; and its server, which only tests have.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["podresources/v1/podresources.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    let server = out.join("server");
    std::fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .build_server(false)
        .compile_fds(descriptors.clone())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .build_client(false)
        .out_dir(server)
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
