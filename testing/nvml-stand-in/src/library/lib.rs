//! The library itself: what `build.rs` compiles into `libnvidia-ml.so.1`. It uses `std` only and keeps its state in one mutex.

#[path = "../codes.rs"]
mod codes;
#[path = "../driver.rs"]
mod driver;
mod events;
mod exports;
#[path = "../format.rs"]
mod format;
mod gpm;
mod instances;
mod layout;
mod lists;
#[path = "../mig.rs"]
mod mig;
#[path = "../scenario.rs"]
mod scenario;
mod world;
