//! Which Secret is read when, and what stays known while one cannot be read: pure, time and chance are arguments.

use super::DEADLINE;
use super::answer::{Answer, Cause};
use infmon_evaluation::cluster::SecretReading;
use infmon_evaluation::credentials::{Missing, not_got};
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
    /// What was logged last.
    logged: Option<Cause>,
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

    /// The Secrets that were in order and have not been read for too long, whether or not a read of them has ended.
    pub(super) fn lapsed(&mut self, now: Instant) -> Vec<(Key, SecretReading)> {
        let mut lapsed = Vec::new();
        for (key, entry) in &mut self.0 {
            if entry.good.take_if(|good| now >= *good + KEPT_FOR).is_some() {
                let words = not_got(
                    &key.0,
                    &key.1,
                    Missing::Answer("the API server was away for 10 minutes"),
                );
                lapsed.push((key.clone(), SecretReading::Unusable(words)));
            }
        }
        lapsed
    }

    /// Takes the answer to the read that began at `began`. `random` is in `0.0..1.0`.
    pub(super) fn ended(&mut self, key: &Key, began: Instant, answer: Answer, now: Instant, random: f64) -> Noted {
        // No monitor names it any more, or a later read is under way or has ended: this answer is the older view.
        let Some(entry) = self.0.get_mut(key).filter(|entry| entry.reading == Some(began)) else {
            return Noted::default();
        };
        entry.reading = None;
        let cause = answer.cause();
        let told = cause.is_some() && cause != entry.logged;
        // Another fault than before: somebody is mending it, step by step.
        if cause.is_none() || told {
            entry.backoff.reset();
        }
        let wait = if cause.is_none() {
            EVERY.mul_f64(0.9 + 0.2 * random)
        } else {
            entry.backoff.next(random)
        };
        entry.due = now + if std::mem::take(&mut entry.again) { LEAST } else { wait };
        entry.logged = cause;
        let reading = match answer {
            Answer::Told(reading) => {
                entry.good = matches!(reading, SecretReading::Usable(_)).then_some(now);
                Some(reading)
            }
            Answer::Passing { .. } if entry.good.is_some_and(|good| now < good + KEPT_FOR) => None,
            Answer::Passing { words, .. } => {
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

    /// Ends the read that is under way, or one that begins now.
    fn end(schedule: &mut Schedule, answer: Answer, now: Instant, random: f64) -> Noted {
        let entry = schedule.0.get_mut(&key("a"));
        let began = entry.map_or(now, |entry| *entry.reading.get_or_insert(now));
        schedule.ended(&key("a"), began, answer, now, random)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_secret_is_read_at_once_then_about_every_minute_and_when_a_monitor_changes() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        assert!(schedule.want(wanted(&["a"], 1), start).is_empty());
        assert_eq!(schedule.take_due(start, 4), [key("a")]);
        assert!(schedule.take_due(start, 4).is_empty(), "one read at a time");
        let noted = end(&mut schedule, usable(), start, 0.0);
        assert!(matches!(noted.reading, Some(SecretReading::Usable(_))) && !noted.told);
        assert!(schedule.take_due(start + 53 * SECOND, 4).is_empty());
        assert_eq!(schedule.take_due(start + 54 * SECOND, 4), [key("a")]);
        end(&mut schedule, usable(), start + 54 * SECOND, 1.0);
        assert!(
            schedule.take_due(start + 119 * SECOND, 4).is_empty(),
            "66 s with the most jitter"
        );
        schedule.want(wanted(&["a"], 2), start + 60 * SECOND);
        assert!(schedule.take_due(start + 60 * SECOND, 4).is_empty(), "not in a burst");
        assert_eq!(schedule.take_due(start + 61 * SECOND, 4), [key("a")]);
        // A change while it is read: the answer may be from before it.
        schedule.want(wanted(&["a"], 3), start + 61 * SECOND);
        end(&mut schedule, usable(), start + 62 * SECOND, 0.0);
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
            end(&mut schedule, usable(), start, 0.0);
            schedule
        };
        let away = |port: u16| Answer::passing("prod", "a", "timed out", &format!("from port {port}"));
        let mut schedule = fresh();
        let kept = end(&mut schedule, away(1), start + KEPT_FOR - SECOND, 0.0);
        assert_eq!((kept.reading, kept.told), (None, true));
        let lost = end(&mut schedule, away(2), start + KEPT_FOR, 0.0);
        assert!(
            matches!(lost.reading, Some(SecretReading::Unusable(words)) if words.contains("timed out") && !words.contains("port"))
        );
        assert!(!lost.told, "once, whatever the client says");
        let mut schedule = fresh();
        for words in ["gone", "forbidden"] {
            let noted = end(&mut schedule, unusable(words), start + SECOND, 0.0);
            assert_eq!(noted.reading, Some(SecretReading::Unusable(words.into())));
            assert!(noted.told);
        }
        // After that nothing is left to be kept.
        let noted = end(&mut schedule, away(3), start + 2 * SECOND, 0.0);
        assert!(matches!(noted.reading, Some(SecretReading::Unusable(_))));
    }

    #[test]
    fn what_is_kept_lapses_although_no_read_ends() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a"], 1), start);
        end(&mut schedule, usable(), start, 0.0);
        assert!(schedule.lapsed(start + KEPT_FOR - SECOND).is_empty());
        let lapsed = schedule.lapsed(start + KEPT_FOR);
        assert!(
            matches!(&lapsed[..], [(lapsed, SecretReading::Unusable(words))] if *lapsed == key("a") && words.contains("10 minutes")),
            "{lapsed:?}"
        );
        assert!(schedule.lapsed(start + KEPT_FOR).is_empty(), "told once");
    }

    #[test]
    fn the_answer_to_an_older_read_is_not_heard() {
        let start = Instant::now();
        let later = start + 2 * DEADLINE;
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a"], 1), start);
        assert_eq!(schedule.take_due(start, 1), [key("a")]);
        assert_eq!(schedule.take_due(later, 1), [key("a")], "the first never ended");
        assert_eq!(schedule.ended(&key("a"), start, usable(), later, 0.0), Noted::default());
        let gone = schedule.ended(&key("a"), later, unusable("gone"), later, 0.0);
        assert_eq!(gone.reading, Some(SecretReading::Unusable("gone".into())));
        assert_eq!(schedule.ended(&key("a"), start, usable(), later, 0.0), Noted::default());
    }

    #[test]
    fn client_words_that_change_neither_log_nor_hurry() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a"], 1), now);
        for (port, wait) in [(1, 2), (2, 4), (3, 8), (4, 16)] {
            let answer = Answer::passing("prod", "a", "away", &format!("from port {port}"));
            assert_eq!(end(&mut schedule, answer, now, 1.0).told, port == 1);
            assert!(schedule.take_due(now + wait * SECOND - SECOND / 2, 1).is_empty());
            now += wait * SECOND;
            assert_eq!(schedule.take_due(now, 1), [key("a")]);
        }
    }

    #[test]
    fn what_is_wrong_is_looked_at_again_soon_then_less_often() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a"], 1), now);
        for wait in [2, 4, 8, 16, 32, 60, 60] {
            end(&mut schedule, unusable("no label"), now, 1.0);
            assert!(
                schedule
                    .take_due(now + Duration::from_secs(wait) - SECOND, 1)
                    .is_empty()
            );
            now += Duration::from_secs(wait);
            assert_eq!(schedule.take_due(now, 1), [key("a")]);
        }
        end(&mut schedule, unusable("no hosts"), now, 1.0);
        assert_eq!(schedule.take_due(now + 2 * SECOND, 1), [key("a")], "the next fault");
    }

    #[test]
    fn what_no_monitor_names_is_forgotten() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(wanted(&["a", "b"], 1), start);
        assert_eq!(schedule.want(wanted(&["b"], 1), start), [key("a")]);
        assert_eq!(end(&mut schedule, usable(), start, 0.0), Noted::default());
        assert!(!schedule.take_due(start, 9).contains(&key("a")));
    }
}
