//! What servers are shown, from files that the command line names.

use infmon_evaluation::credentials::{authorities, basic, bearer, client_certificate};
use infmon_samples::Credentials;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Larger than anything that is taken.
const FILE_MAX_BYTES: u64 = 64 * 1024;
/// Where these credentials come from, for people.
const SOURCE: &str = "the command line";

/// Files with credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Credentials")]
pub struct AccessFiles {
    /// File with a bearer token (an API key)
    #[arg(long, value_name = "FILE", conflicts_with = "basic_auth_file")]
    pub bearer_token_file: Option<PathBuf>,
    /// File with user:password
    #[arg(long, value_name = "FILE")]
    pub basic_auth_file: Option<PathBuf>,
    /// File with the authorities that certificates must come from, PEM, in place of the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with a certificate to show, PEM, leaf first
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    pub client_certificate_file: Option<PathBuf>,
    /// File with its key, PEM
    #[arg(long, value_name = "FILE", requires = "client_certificate_file")]
    pub client_key_file: Option<PathBuf>,
}

impl AccessFiles {
    /// Reads the files; `None` when none is named. Tells `warn` of those with secrets that others can read.
    ///
    /// # Errors
    /// With the file and what is wrong with it, without its content.
    pub fn read(&self, mut warn: impl FnMut(String)) -> Result<Option<Credentials>, String> {
        if *self == Self::default() {
            return Ok(None);
        }
        let of = |path: &Path, fault: String| format!("{} {fault}", path.display());
        let mut credentials = Credentials {
            source: SOURCE.into(),
            ..Credentials::default()
        };
        if let Some(path) = &self.bearer_token_file {
            let token = secret(path, &mut warn)?;
            credentials.authorization = Some(bearer(&token).map_err(|fault| of(path, fault))?);
        }
        if let Some(path) = &self.basic_auth_file {
            let pair = secret(path, &mut warn)?;
            let colon = pair.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or_else(|| of(path, "has no ':': write user:password into it".into()))?;
            let (username, password) = (&pair[..colon], &pair[colon + 1..]);
            let made = basic(username, password).map_err(|(part, fault)| of(path, format!("({part}) {fault}")))?;
            credentials.authorization = Some(made);
        }
        if let Some(path) = &self.ca_file {
            credentials.ca_pem = Some(authorities(&content(path)?).map_err(|fault| of(path, fault))?);
        }
        if let (Some(chain), Some(key)) = (&self.client_certificate_file, &self.client_key_file) {
            let pem = (content(chain)?, secret(key, &mut warn)?);
            let made = client_certificate(&pem.0, &pem.1).map_err(|(part, fault)| {
                let path = if part == "tls.key" { key } else { chain };
                of(path, fault)
            })?;
            credentials.client_certificate = Some(made);
        }
        Ok(Some(credentials))
    }
}

/// Why a file with secrets should be guarded better; `None` when it is.
#[must_use]
pub fn can_be_read_by_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o044 != 0).then(|| {
        let path = path.display();
        format!("{path} holds secrets and can be read by others: chmod 600 {path}")
    })
}

fn secret(path: &Path, warn: &mut impl FnMut(String)) -> Result<Vec<u8>, String> {
    let content = content(path)?;
    if let Some(words) = can_be_read_by_others(path) {
        warn(words);
    }
    Ok(content)
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut content));
    read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if content.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("{} has more than {FILE_MAX_BYTES} bytes", path.display()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const CANARY: &str = "canary-5d41402a";

    fn file(folder: &tempfile::TempDir, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn files_become_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let read = |files: &AccessFiles| {
            let mut warnings = Vec::new();
            let read = files.read(|words| warnings.push(words));
            (read, warnings)
        };
        assert_eq!(read(&AccessFiles::default()), (Ok(None), vec![]));
        let token = AccessFiles {
            bearer_token_file: Some(file(&folder, "token", &format!("{CANARY}\n"), 0o600)),
            ..AccessFiles::default()
        };
        let (credentials, warnings) = read(&token);
        let bearer = credentials.unwrap().unwrap().authorization.unwrap();
        assert_eq!(bearer.reveal(), format!("Bearer {CANARY}"));
        assert!(warnings.is_empty());
        let basic = AccessFiles {
            basic_auth_file: Some(file(&folder, "basic", "Aladdin:open sesame\n", 0o644)),
            ..AccessFiles::default()
        };
        let (credentials, warnings) = read(&basic);
        let basic = credentials.unwrap().unwrap().authorization.unwrap();
        assert_eq!(basic.reveal(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(warnings.len() == 1 && warnings[0].contains("chmod 600"), "{warnings:?}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let spaced = file(&folder, "spaced", &format!("{CANARY} {CANARY}"), 0o600);
        let plain = file(&folder, "plain", CANARY, 0o600);
        let large = file(&folder, "large", &"x".repeat(70_000), 0o600);
        let missing = folder.path().join("missing");
        let files = AccessFiles::default;
        for (files, words) in [
            (
                AccessFiles {
                    bearer_token_file: Some(spaced),
                    ..files()
                },
                "has blanks",
            ),
            (
                AccessFiles {
                    basic_auth_file: Some(plain.clone()),
                    ..files()
                },
                "user:password",
            ),
            (
                AccessFiles {
                    ca_file: Some(plain.clone()),
                    ..files()
                },
                "holds no certificate",
            ),
            (
                AccessFiles {
                    client_certificate_file: Some(plain.clone()),
                    client_key_file: Some(plain),
                    ..files()
                },
                "holds no certificate",
            ),
            (
                AccessFiles {
                    bearer_token_file: Some(large),
                    ..files()
                },
                "more than 65536 bytes",
            ),
            (
                AccessFiles {
                    bearer_token_file: Some(missing),
                    ..files()
                },
                "cannot be read",
            ),
        ] {
            let error = files.read(|_| {}).unwrap_err();
            assert!(error.contains(words) && !error.contains(CANARY), "{error}");
        }
    }
}
