//! The names of a body, for one that is mapped and not there: a slip of the pen, or a rename.

use std::collections::BTreeSet;

use super::MappedSeries;
use super::mapping::is_metric_name;
use crate::field::Quantity;

/// Distinct names that are remembered of one body.
const NAME_LIMIT: usize = 512;
/// Names that are told.
const TOLD_LIMIT: usize = 3;
/// How much two names must have in common, of 1.
const ALIKE: f64 = 0.6;

/// Names of a body.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The one noted last: most series have the name of the one before.
    last: Vec<u8>,
    scalars: BTreeSet<Vec<u8>>,
    /// Without their suffixes.
    histograms: BTreeSet<Vec<u8>>,
}

impl Names {
    /// Takes the name of a sample line into account.
    pub(super) fn note(&mut self, name: &[u8]) {
        if self.last == name || !is_metric_name(name) || name.ends_with(b"_created") {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(name);
        let (place, name) = match name.strip_suffix(b"_bucket") {
            Some(base) => (&mut self.histograms, base),
            None => (&mut self.scalars, name),
        };
        if place.len() < NAME_LIMIT && !place.contains(name) {
            place.insert(name.to_vec());
        }
    }

    /// The few names that are most like those of the series.
    pub(super) fn like<'s>(&self, series: impl IntoIterator<Item = &'s MappedSeries>) -> Vec<String> {
        let mut alike: Vec<(f64, &[u8])> = Vec::new();
        for series in series {
            let is_latency = series.field.quantity() == Quantity::Latency;
            let names = if is_latency { &self.histograms } else { &self.scalars };
            for name in names.iter().filter(|name| is_latency || !self.is_part(name)) {
                let share = alikeness(series.name.as_bytes(), name);
                if share >= ALIKE && !alike.iter().any(|(_, known)| known == name) {
                    alike.push((share, name));
                }
            }
        }
        alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        alike.truncate(TOLD_LIMIT);
        alike
            .into_iter()
            .map(|(_, name)| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// True for the sum and the count of a histogram.
    fn is_part(&self, name: &[u8]) -> bool {
        let base = name.strip_suffix(b"_sum").or_else(|| name.strip_suffix(b"_count"));
        base.is_some_and(|base| self.histograms.contains(base))
    }
}

/// The share of the pairs of letters that two names have in common (Dice's coefficient).
fn alikeness(a: &[u8], b: &[u8]) -> f64 {
    let pairs = |name: &[u8]| {
        let mut pairs: Vec<[u8; 2]> = name
            .windows(2)
            .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
            .map(|pair| pair.map(|byte| byte.to_ascii_lowercase()))
            .collect();
        pairs.sort_unstable();
        pairs
    };
    let (a, b) = (pairs(a), pairs(b));
    let (mut at_a, mut at_b, mut common) = (0, 0, 0_usize);
    while let (Some(one), Some(other)) = (a.get(at_a), b.get(at_b)) {
        match one.cmp(other) {
            std::cmp::Ordering::Less => at_a += 1,
            std::cmp::Ordering::Greater => at_b += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                at_a += 1;
                at_b += 1;
            }
        }
    }
    let all = a.len() + b.len();
    if all == 0 {
        0.0
    } else {
        2.0 * common as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;
    use std::collections::BTreeMap;

    fn series(field: Field, name: &str) -> MappedSeries {
        MappedSeries {
            field,
            name: name.to_owned(),
            labels: BTreeMap::new(),
            unit: None,
            aggregation: None,
        }
    }

    #[test]
    fn slips_and_renames_are_found_among_names_of_the_same_kind() {
        let mut names = Names::default();
        for name in [
            "my_server_queue_length",
            "my_server_uptime",
            "my_server_ttft_bucket",
            "my_server_ttft_sum",
            "my_server_ttft_count",
            "my_server_queue_depth_created",
            "python_gc_objects_collected_total",
        ] {
            names.note(name.as_bytes());
        }
        let like = |field, name: &str| names.like([&series(field, name)]);
        assert_eq!(
            like(Field::Waiting, "my_server_queue_depth"),
            ["my_server_queue_length"]
        );
        assert_eq!(like(Field::Waiting, "My_Server_Uptimes"), ["my_server_uptime"]);
        assert_eq!(like(Field::TimeToFirstToken, "my_server_tfft"), ["my_server_ttft"]);
        assert_eq!(like(Field::Waiting, "my_server_ttft_sum"), [""; 0]);
        assert_eq!(like(Field::Waiting, "other"), [""; 0]);
    }

    #[test]
    fn few_names_are_kept_and_told_and_only_plain_ones() {
        let mut names = Names::default();
        for number in 0..NAME_LIMIT + 10 {
            names.note(format!("queue_{number:04}").as_bytes());
        }
        names.note(b"a\nqueue");
        assert_eq!(names.scalars.len(), NAME_LIMIT);
        assert_eq!(names.like([&series(Field::Waiting, "queue_9999")]).len(), TOLD_LIMIT);
    }
}
