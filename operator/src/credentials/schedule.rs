//! Which Secret is read when, and what stays known while one cannot be read: pure, time and chance are arguments.

use super::DEADLINE;
use super::answer::Answer;
use infmon_evaluation::cluster::SecretReading;
use infmon_runtime::{Backoff, BackoffPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Namespace and name.
pub(super) type Key = (String, String);
/// Monitors that name a Secret: uids and generations.
type Users = BTreeSet<(String, i64)>;

/// Time between two reads of a Secret that is in order.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// Shortest time between two reads, however often monitors change.
pub(super) const LEAST: Duration = Duration::from_secs(1);
/// How long credentials stay in use while the API server cannot be asked.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(600);
/// Waits after a read that gave nothing: somebody is likely about to mend it.
const RETRY: BackoffPolicy = BackoffPolicy {
    first: Duration::from_secs(2),
    max: EVERY,
};

/// What follows from an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// What is known now, where that changed.
    pub(super) reading: Option<SecretReading>,
    /// It is worth a line in the log.
    pub(super) told: bool,
}

#[derive(Debug)]
struct Entry {
    users: Users,
    due: Instant,
    /// When the read began that is under way.
    reading: Option<Instant>,
    /// A monitor changed while it was read.
    again: bool,
    /// When it was read last and was in order.
    good: Option<Instant>,
    /// The words that were logged last.
    logged: Option<String>,
    backoff: Backoff,
}

impl Entry {
    fn new(users: Users, now: Instant) -> Self {
        Self {
            users,
            due: now,
            reading: None,
            again: false,
            good: None,
            logged: None,
            backoff: Backoff::new(RETRY),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let busy = self.reading.is_some_and(|began| now < began + 2 * DEADLINE);
        !busy && now >= self.due
    }
}

/// The Secrets that are read.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeMap<Key, Entry>);

impl Schedule {
    /// Takes the Secrets that monitors name now; returns those that none names any more.
    pub(super) fn want(&mut self, wanted: BTreeMap<Key, Users>, now: Instant) -> Vec<Key> {
        let gone: Vec<Key> = self.0.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in &gone {
            self.0.remove(key);
        }
        for (key, users) in wanted {
            let entry = self.0.entry(key).or_insert_with(|| Entry::new(users.clone(), now));
            if entry.users != users {
                entry.users = users;
                entry.due = entry.due.min(now + LEAST);
                entry.again = entry.reading.is_some();
            }
        }
        gone
    }

    /// The Secrets to read now, at most `room`; the longest due first, so that none is passed over for ever.
    pub(super) fn take_due(&mut self, now: Instant, room: usize) -> Vec<Key> {
        let mut due: Vec<(Instant, &Key)> = self
            .0
            .iter()
            .filter(|(_, entry)| entry.is_due(now))
            .map(|(key, entry)| (entry.due, key))
            .collect();
        due.sort_unstable();
        let due: Vec<Key> = due.into_iter().take(room).map(|(_, key)| key.clone()).collect();
        for key in &due {
            if let Some(entry) = self.0.get_mut(key) {
                entry.reading = Some(now);
                entry.again = false;
            }
        }
        due
    }

    /// Takes the answer to a read. `random` is in `0.0..1.0`.
    pub(super) fn ended(&mut self, key: &Key, answer: Answer, now: Instant, random: f64) -> Noted {
        // No monitor names it any more.
        let Some(entry) = self.0.get_mut(key) else {
            return Noted::default();
        };
        entry.reading = None;
        let words = answer.words().map(str::to_owned);
        let told = words.is_some() && words != entry.logged;
        // Another fault than before: somebody is mending it, step by step.
        if words.is_none() || told {
            entry.backoff.reset();
        }
        let wait = if words.is_none() {
            EVERY.mul_f64(0.9 + 0.2 * random)
        } else {
            entry.backoff.next(random)
        };
        entry.due = now + if std::mem::take(&mut entry.again) { LEAST } else { wait };
        entry.logged = words;
        let reading = match answer {
            Answer::Told(reading) => {
                entry.good = matches!(reading, SecretReading::Usable(_)).then_some(now);
                Some(reading)
            }
            Answer::Passing(_) if entry.good.is_some_and(|good| now < good + KEPT_FOR) => None,
            Answer::Passing(words) => {
                entry.good = None;
                Some(SecretReading::Unusable(words))
            }
        };
        Noted { reading, told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("prod".into(), name.into())
    }

    fn wanted(names: &[&str], generation: i64) -> BTreeMap<Key, Users> {
        let users = |name: &&str| (key(name), Users::from([("monitor".to_owned(), generation)]));
        names.iter().map(users).collect()
    }

    fn usable() -> Answer {
        use infmon_evaluation::NamedCredentials;
        use infmon_evaluation::credentials::{HOSTS, LABEL, SecretData};
        let named = NamedCredentials::read(&SecretData {
            labels: [(LABEL.to_owned(), "true".to_owned())].into(),
            annotations: [(HOSTS.to_owned(), "llm".to_owned())].into(),
            data: [("token".to_owned(), b"t".to_vec())].into(),
            ..SecretData::default()
        });
        Answer::Told(SecretReading::Usable(named.expect("in order").into()))
    }

    fn unusable(words: &str) -> Answer {
        Answer::Told(SecretReading::Unusable(words.into()))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_secret_is_read_at_once_then_about_every_minute_and_when_a_monitor_changes() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        assert!(schedule.want(wanted(&["a"], 1), start).is_empty());
        assert_eq!(schedule.take_due(start, 4), [key("a")]);
        assert!(schedule.take_due(start, 4).is_empty(), "one read at a time");
        let noted = schedule.ended(&key("a"), usable(), start, 0.0);
        assert!(matches!(noted.reading, Some(SecretReading::Usable(_))) && !noted.told);
        assert!(schedule.take_due(start + 53 * SECOND, 4).is_empty());
        assert_eq!(schedule.take_due(start + 54 * SECOND, 4), [key("a")]);
        schedule.ended(&key("a"), usable(), start + 54 * SECOND, 1.0);
        assert!(
            schedule.take_due(start + 119 * SECOND, 4).is_empty(),
            "66 s with the most jitter"
        );
        schedule.want(wanted(&["a"], 2), start + 60 * SECOND);
        assert!(schedule.take_due(start + 60 * SECOND, 4).is_empty(), "not in a burst");
        assert_eq!(schedule.take_due(start + 61 * SECOND, 4), [key("a")]);
        // A change while it is read: the answer may be from before it.
        schedule.want(wanted(&["a"], 3), start + 61 * SECOND);
        schedule.ended(&key("a"), usable(), start + 62 * SECOND, 0.0);
        assert_eq!(schedule.take_due(start + 63 * SECOND, 4), [key("a")]);
    }

    #[test]
    fn reads_are_few_at_a_time_and_the_longest_due_is_first() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["b"], 1), start);
        schedule.want(wanted(&["a", "b", "c"], 1), start + SECOND);
        assert_eq!(schedule.take_due(start + SECOND, 2), [key("b"), key("a")]);
        assert!(schedule.take_due(start + SECOND, 0).is_empty());
        assert_eq!(schedule.take_due(start + SECOND, 2), [key("c")]);
        // A read that never ended, since its task panicked.
        assert_eq!(schedule.take_due(start + SECOND + 2 * DEADLINE, 9).len(), 3);
    }

    #[test]
    fn what_passes_keeps_the_last_known_for_a_time_and_what_is_told_does_not() {
        let start = Instant::now();
        let fresh = || {
            let mut schedule = Schedule::default();
            schedule.want(wanted(&["a"], 1), start);
            schedule.ended(&key("a"), usable(), start, 0.0);
            schedule
        };
        let away = || Answer::passing("prod", "a", "timed out");
        let mut schedule = fresh();
        let kept = schedule.ended(&key("a"), away(), start + KEPT_FOR - SECOND, 0.0);
        assert_eq!((kept.reading, kept.told), (None, true));
        let lost = schedule.ended(&key("a"), away(), start + KEPT_FOR, 0.0);
        assert!(matches!(lost.reading, Some(SecretReading::Unusable(words)) if words.contains("timed out")));
        assert!(!lost.told, "the same words once");
        let mut schedule = fresh();
        for words in ["gone", "forbidden"] {
            let noted = schedule.ended(&key("a"), unusable(words), start + SECOND, 0.0);
            assert_eq!(noted.reading, Some(SecretReading::Unusable(words.into())));
            assert!(noted.told);
        }
        // After that nothing is left to be kept.
        let noted = schedule.ended(&key("a"), away(), start + 2 * SECOND, 0.0);
        assert!(matches!(noted.reading, Some(SecretReading::Unusable(_))));
    }

    #[test]
    fn what_is_wrong_is_looked_at_again_soon_then_less_often() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a"], 1), now);
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            schedule.ended(&key("a"), unusable("no label"), now, 1.0);
            assert!(
                schedule
                    .take_due(now + Duration::from_secs(wait) - SECOND, 1)
                    .is_empty()
            );
            now += Duration::from_secs(wait);
            assert_eq!(schedule.take_due(now, 1), [key("a")]);
        }
        schedule.ended(&key("a"), unusable("no hosts"), now, 1.0);
        assert_eq!(schedule.take_due(now + 2 * SECOND, 1), [key("a")], "the next fault");
    }

    #[test]
    fn what_no_monitor_names_is_forgotten() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a", "b"], 1), start);
        assert_eq!(schedule.want(wanted(&["b"], 1), start), [key("a")]);
        assert_eq!(schedule.ended(&key("a"), usable(), start, 0.0), Noted::default());
        assert!(!schedule.take_due(start, 9).contains(&key("a")));
    }
}
