//! The texts of a memory control group's files. Pure; what is not understood is `None`.
//!
//! Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst` and `accounting/psi.rst`.

/// From here on a limit of version 1 is none: the kernel writes the largest whole page below 2^63.
const NO_LIMIT_FROM: u64 = 1 << 62;

/// One number: `memory.current`, `memory.usage_in_bytes`.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A limit: `memory.max`, `memory.limit_in_bytes`. `Some(None)` is a cgroup without one.
pub(crate) fn limit(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "max" => Some(None),
        other => {
            let bytes: u64 = other.parse().ok()?;
            Some((bytes < NO_LIMIT_FROM).then_some(bytes))
        }
    }
}

/// The value of a key in lines of `key value`: `memory.stat`, `memory.events`, `memory.oom_control`.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key { value.trim().parse().ok() } else { None }
    })
}

/// Share of the last 10 s in which every task waited, percent: `full avg10` of `memory.pressure`.
pub(crate) fn full_average_10(text: &str) -> Option<f64> {
    let full = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let value = full.split(' ').find_map(|pair| pair.strip_prefix("avg10="))?;
    value
        .parse()
        .ok()
        .filter(|percent: &f64| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel() {
        assert_eq!(number("1073741824\n"), Some(1 << 30));
        assert_eq!(limit("max\n"), Some(None));
        assert_eq!(limit("9223372036854771712\n"), Some(None));
        assert_eq!(limit("2147483648\n"), Some(Some(1 << 31)));
        let events = "low 0\nhigh 0\nmax 812\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(value_of(events, "oom_kill"), Some(2));
        assert_eq!(
            value_of("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", "oom_kill"),
            Some(5)
        );
        let pressure =
            "some avg10=1.50 avg60=0.20 avg300=0.00 total=91\nfull avg10=0.75 avg60=0.10 avg300=0.00 total=44\n";
        assert_eq!(full_average_10(pressure), Some(0.75));
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "max\n", "-1", "1 2", "0x10", "18446744073709551616"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!(limit("none"), None);
        assert_eq!(value_of("inactive_file\n", "inactive_file"), None);
        assert_eq!(value_of("total_inactive_file 5\n", "inactive_file"), None);
        for text in [
            "",
            "full",
            "full avg10=",
            "full avg10=NaN",
            "full avg10=900",
            "some avg10=1.00 avg60=0",
        ] {
            assert_eq!(full_average_10(text), None, "{text:?}");
        }
    }
}
