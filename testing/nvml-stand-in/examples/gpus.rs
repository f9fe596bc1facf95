//! Plays NVIDIA GPUs on a machine without any: puts the stand-in library into a folder, and changes what it plays while programs use it.
//!
//! ```text
//! cargo run -p infmon-nvml-stand-in --example gpus -- install FOLDER [--gpu H100] [--count 8] [--driver 580.95.05]
//! cargo run -p infmon-nvml-stand-in --example gpus -- set FOLDER 'gpu 0: temperature = 91' 'gpu 0: xid = 79'
//! cargo run -p infmon-nvml-stand-in --example gpus -- play FOLDER SCRIPT
//! cargo run -p infmon-nvml-stand-in --example gpus -- show FOLDER
//! ```
//!
//! A program sees these GPUs when it opens `FOLDER/libnvidia-ml.so.1`: `infmon run --nvml-library`, `infmon-node-daemon --nvml-library`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use infmon_nvml_stand_in::script::{self, Step};
use infmon_nvml_stand_in::{Profile, Scenario, StandIn, driver};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["install", folder, options @ ..] => install(Path::new(folder), options),
        ["set", folder, changes @ ..] if !changes.is_empty() => set(Path::new(folder), changes),
        ["play", folder, file] => play(Path::new(folder), &std::fs::read_to_string(file)?),
        ["show", folder] => {
            print!("{}", StandIn::at(Path::new(folder))?.read()?);
            Ok(())
        }
        _ => Err("expected install FOLDER, set FOLDER CHANGE..., play FOLDER SCRIPT, or show FOLDER".into()),
    }
}

fn install(folder: &Path, options: &[&str]) -> Outcome {
    let (mut gpu, mut count, mut version) = (Profile::H100, 8, "580.95.05");
    for option in options.chunks(2) {
        match option {
            ["--gpu", name] => gpu = name.parse()?,
            ["--count", number] => count = number.parse()?,
            ["--driver", name] => version = name,
            other => return Err(format!("expected --gpu, --count or --driver with a value, found {other:?}").into()),
        }
    }
    if driver::version(version).0 == 0 {
        return Err(format!(
            "not a driver version: {version}; known are {}",
            driver::DRIVERS.join(", ")
        )
        .into());
    }
    let stand_in = StandIn::install(folder, &Scenario::with_driver(gpu, count, version))?;
    println!("{}", stand_in.library_path().display());
    Ok(())
}

fn set(folder: &Path, changes: &[&str]) -> Outcome {
    let stand_in = StandIn::at(folder)?;
    let mut scenario = stand_in.read()?;
    for line in changes {
        script::change(&mut scenario, line)?;
    }
    Ok(stand_in.write(&scenario)?)
}

fn play(folder: &Path, text: &str) -> Outcome {
    let stand_in = StandIn::at(folder)?;
    let begun = Instant::now();
    for Step { at, changes } in script::parse(text)? {
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        let mut scenario = stand_in.read()?;
        for line in &changes {
            script::change(&mut scenario, line)?;
            println!("{:7.2} s  {line}", begun.elapsed().as_secs_f64());
        }
        stand_in.write(&scenario)?;
    }
    Ok(())
}
