//! Puts the library and its state file into a folder.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver;
use crate::scenario::Scenario;

/// File name of the library.
pub const LIBRARY_NAME: &str = "libnvidia-ml.so.1";
/// File name of the state, beside the library.
pub const STATE_NAME: &str = "nvml-stand-in.state";

static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libnvidia-ml.so.1"));

/// An installed stand-in. Dropping it leaves the files in place.
#[derive(Clone, Debug)]
pub struct StandIn {
    folder: PathBuf,
}

impl StandIn {
    /// Writes the library and its state into `folder`, replacing (not overwriting) what is there: a process that has the old library open
    /// keeps it, as with a driver upgrade. The library exports what that of the scenario's driver does.
    pub fn install(folder: &Path, scenario: &Scenario) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        // A relative path would be looked up by the loader as a library name.
        let stand_in = Self {
            folder: fs::canonicalize(folder)?,
        };
        let mut absent: BTreeSet<&str> = driver::absent_symbols(&scenario.driver).collect();
        absent.extend(scenario.absent_symbols.iter().map(String::as_str));
        // The state last: with it a program that waits for the new driver would go on with the old library.
        replace(&stand_in.library_path(), &without(&absent)?)?;
        stand_in.write(scenario)?;
        Ok(stand_in)
    }

    /// The stand-in that [`install`](Self::install) put into `folder` before, perhaps in another process.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let stand_in = Self {
            folder: fs::canonicalize(folder)?,
        };
        fs::metadata(stand_in.state_path())?;
        Ok(stand_in)
    }

    /// What it plays now.
    pub fn read(&self) -> io::Result<Scenario> {
        let text = fs::read_to_string(self.state_path())?;
        let invalid = |error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {error}", self.state_path().display()),
            )
        };
        text.parse().map_err(invalid)
    }

    /// Where the library is.
    #[must_use]
    pub fn library_path(&self) -> PathBuf {
        self.folder.join(LIBRARY_NAME)
    }

    /// Where the state file is.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.folder.join(STATE_NAME)
    }

    /// Replaces the state; processes that use the library see it within about 20 ms.
    pub fn write(&self, scenario: &Scenario) -> io::Result<()> {
        replace(&self.state_path(), scenario.to_string().as_bytes())
    }

    /// Takes the library away, as an uninstalled driver does. The state stays.
    pub fn remove_library(&self) -> io::Result<()> {
        fs::remove_file(self.library_path())
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}-{serial}", std::process::id()));
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}

/// The library without some of its symbols: their names are changed in the string table, so that the loader does not find them.
fn without(symbols: &BTreeSet<&str>) -> io::Result<Vec<u8>> {
    let mut library = LIBRARY.to_vec();
    for symbol in symbols {
        let name = format!("\0{symbol}\0").into_bytes();
        let found = library.windows(name.len()).position(|window| window == name);
        let at = found.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the stand-in does not export {symbol}"),
            )
        })?;
        library[at + 1] = b'-';
    }
    Ok(library)
}
