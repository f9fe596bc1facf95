//! Where this machine gets its own Debian packages: that mirror is near, and it is allowed.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Suites of Debian that are called otherwise than a release.
const OTHER_SUITES: [&str; 4] = ["stable", "testing", "unstable", "sid"];

/// The mirror of Debian in this machine's own sources; `None` when it is no Debian or has none.
#[must_use]
pub fn mirror() -> Option<String> {
    let system = fs::read_to_string("/etc/os-release").ok()?;
    let sources = files().into_iter().filter_map(|path| fs::read_to_string(path).ok());
    find(&system, sources)
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "list" || extension == "sources")
        })
        .collect();
    files.push(Path::new("/etc/apt/sources.list").to_owned());
    files.sort();
    files
}

/// Other distributions and vendors are in these files too: only what has a suite of Debian is a mirror of it.
fn find(system: &str, sources: impl IntoIterator<Item = String>) -> Option<String> {
    let of_system = |name: &str| {
        system
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    if of_system("ID") != Some("debian") {
        return None;
    }
    let release = of_system("VERSION_CODENAME");
    let is_debian = |suite: &str| Some(suite) == release || OTHER_SUITES.contains(&suite);
    // What debootstrap takes.
    let is_mirror = |uri: &&str| {
        ["http://", "https://", "file:/"]
            .iter()
            .any(|scheme| uri.starts_with(scheme))
    };
    sources
        .into_iter()
        .flat_map(|text| entries(&text))
        .filter(|entry| {
            entry.suites.iter().any(|suite| is_debian(suite)) && entry.components.iter().any(|name| name == "main")
        })
        .find_map(|entry| entry.uris.iter().map(String::as_str).find(is_mirror).map(str::to_owned))
}

/// A source of binary packages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

/// The sources in a file, in either of the two forms that apt reads.
fn entries(text: &str) -> Vec<Entry> {
    let uncommented: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let lines = uncommented.iter().filter_map(|line| of_line(line));
    let stanzas = uncommented.split(|line| line.trim().is_empty()).filter_map(of_stanza);
    lines.chain(stanzas).collect()
}

/// `deb [signed-by=...] http://mirror/debian bookworm main contrib`
fn of_line(line: &str) -> Option<Entry> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
    })
}

/// Lines such as `URIs: http://mirror/debian`; a line that begins with a blank continues the one before.
fn of_stanza(lines: &[&str]) -> Option<Entry> {
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        let (name, values) = match line.split_once(':') {
            Some((name, values)) if !line.starts_with(char::is_whitespace) => (Some(name), values),
            _ => (None, *line),
        };
        if let Some(name) = name {
            fields.push((name.to_ascii_lowercase(), Vec::new()));
        }
        if let Some((_, list)) = fields.last_mut() {
            list.extend(values.split_whitespace().map(str::to_owned));
        }
    }
    let field = |name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, values)| values.clone())
    };
    let has = |name: &str, value: &str| field(name).is_some_and(|values| values.iter().any(|word| word == value));
    if !has("types", "deb") || has("enabled", "no") {
        return None;
    }
    Some(Entry {
        uris: field("uris")?,
        suites: field("suites")?,
        components: field("components").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    const DEBIAN: &str = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
    const VENDORS: &str =
        "deb https://packages.example.com/apt cloud-sdk main\n# deb http://old.example.org/debian bookworm main\n";

    fn found(system: &str, sources: &[&str]) -> Option<String> {
        find(system, sources.iter().map(ToString::to_string))
    }

    #[test]
    fn the_mirror_is_that_of_the_machines_own_suite() {
        let line = "deb-src http://source.example.org/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example.org/debian bookworm main contrib\n";
        assert_eq!(
            found(DEBIAN, &[VENDORS, line]).as_deref(),
            Some("http://mirror.example.org/debian")
        );
        let stanzas = "# see sources.list(5)\n\
                       Types: deb\nURIs: http://off.example.org/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\n\
                       Types: deb deb-src\nURIs: mirror+file:/etc/list\n https://deb.example.org/debian\n\
                       Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
                       Types: deb\nURIs: http://deb.example.org/debian-security\nSuites: bookworm-security\nComponents: main\n";
        assert_eq!(
            found(DEBIAN, &[VENDORS, stanzas]).as_deref(),
            Some("https://deb.example.org/debian")
        );
        let sid = "ID=debian\nVERSION_CODENAME=forky\n";
        assert_eq!(
            found(sid, &["deb http://m.example.org/debian/ unstable main"]).as_deref(),
            Some("http://m.example.org/debian/")
        );
    }

    #[test]
    fn where_there_is_no_debian_there_is_no_mirror() {
        assert_eq!(found(DEBIAN, &[VENDORS]), None);
        assert_eq!(found(DEBIAN, &["deb", "deb [", "deb x", "Types: deb\nURIs:", ""]), None);
        let ubuntu = "ID=ubuntu\nVERSION_CODENAME=noble\n";
        assert_eq!(found(ubuntu, &["deb http://m.example.org/ubuntu noble main"]), None);
    }
}
