//! Names that a body has in place of one that is missing, as after a rename in a release that is not known yet.

/// Distinct names that are remembered of one body.
const NAME_LIMIT: usize = 512;
/// Bytes of one of them.
const NAME_BYTES: usize = 128;
/// Names that are told.
const TOLD_LIMIT: usize = 3;

/// The names of a body that fed no field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread {
    names: Vec<String>,
    /// Buckets, and counters of tokens and of requests that lost their place.
    counting: Vec<String>,
    /// The name noted last: the series of a family stand together, and most are buckets.
    last: Vec<u8>,
}

impl Unread {
    /// Takes a name of a sample line into account.
    pub(crate) fn note(&mut self, name: &[u8]) {
        if self.last == name || name.len() > NAME_BYTES {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(name);
        if name.ends_with(BUCKET.as_bytes()) || is_of_tokens(name) || is_of_preemptions(name) {
            push(&mut self.counting, name);
        }
        // Most names of a body; of no other kind than `is_other_kind` says, and told by their end.
        let other_kind: [&[u8]; 4] = [b"_bucket", b"_created", b"_total", b"_sum"];
        if !other_kind.iter().any(|end| name.ends_with(end)) {
            push(&mut self.names, name);
        }
    }

    /// The counters, or the histograms, of tokens that have all the words of `expected`.
    pub(crate) fn counting_like(&self, expected: &str) -> Vec<&str> {
        let is_counter = expected.ends_with(COUNTER);
        let wanted: Vec<&str> = token_words(expected).collect();
        let mut found: Vec<&str> = self
            .counting
            .iter()
            .filter(|name| name.ends_with(COUNTER) == is_counter && is_of_tokens(name.as_bytes()))
            .filter(|name| !is_of_preemptions(name.as_bytes()))
            .map(|name| name.strip_suffix(BUCKET).unwrap_or(name))
            .filter(|name| {
                let has = |word: &&str| token_words(name).any(|other| other == *word);
                !wanted.is_empty() && wanted.iter().all(has)
            })
            .collect();
        found.truncate(TOLD_LIMIT);
        found
    }

    /// The counters, or the histograms of times, that say the same as `expected`: all its words, and none but its words.
    pub(crate) fn same_as(&self, expected: &str) -> Vec<&str> {
        let is_counter = expected.ends_with(COUNTER);
        let wanted = meaning(expected);
        let mut found: Vec<&str> = self
            .counting
            .iter()
            .filter(|name| name.ends_with(COUNTER) == is_counter)
            .map(|name| name.strip_suffix(BUCKET).unwrap_or(name))
            .filter(|name| (is_counter || is_of_time(name)) && !wanted.is_empty() && meaning(name) == wanted)
            .collect();
        found.truncate(TOLD_LIMIT);
        found
    }

    /// The names that read like `expected`.
    pub(crate) fn like(&self, expected: &str) -> Vec<&str> {
        let wanted: Vec<&str> = words(expected).collect();
        // "requests waiting" is one idea, "KV cache usage" three.
        let needed = wanted.len().min(2);
        let mut found: Vec<&str> = self
            .names
            .iter()
            .map(String::as_str)
            .filter(|name| !is_other_kind(name))
            .filter(|name| {
                let has = |word: &&&str| words(name).any(|other| other == **word);
                needed > 0 && wanted.iter().filter(has).count() >= needed
            })
            .collect();
        found.truncate(TOLD_LIMIT);
        found
    }
}

const COUNTER: &str = "_total";
const BUCKET: &str = "_bucket";

/// Whether a name is that of a counter of requests that were evicted, in the words of vLLM and SGLang.
fn is_of_preemptions(name: &[u8]) -> bool {
    name.ends_with(COUNTER.as_bytes()) && (has(name, b"preempt") || has(name, b"retract"))
}

/// Whether a name says that it is of a time.
fn is_of_time(name: &str) -> bool {
    name.split(['_', ':']).any(|word| TIMES.contains(&word))
}

/// Words of times, and their units.
const TIMES: [&str; 9] = [
    "time",
    "times",
    "latency",
    "duration",
    "seconds",
    "secs",
    "s",
    "milliseconds",
    "ms",
];

/// What a name of a time or of a counter is about: its words without the engine, the kind and the unit, synonyms as one, each once.
fn meaning(name: &str) -> Vec<&str> {
    let key = name.split_once(':').map_or(name, |(_, key)| key);
    let words = key.split('_').filter_map(|word| match word {
        "" | "ray" | "vllm" | "sglang" | "trtllm" | "lmdeploy" | "num" | "request" | "requests" | "req" | "reqs"
        | "in" | "of" | "to" | "total" => None,
        time if TIMES.contains(&time) => None,
        "iter" => Some("inter"),
        "tokens" => Some("token"),
        "end" => Some("e2e"),
        "queued" | "queueing" | "queuing" | "waiting" | "wait" => Some("queue"),
        "preemption" | "preemptions" | "preempted" => Some("preempt"),
        "retraction" | "retractions" | "retracted" => Some("retract"),
        other => Some(other),
    });
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Whether a name is that of a counter or bucket that has to do with tokens.
fn is_of_tokens(name: &[u8]) -> bool {
    (name.ends_with(COUNTER.as_bytes()) || name.ends_with(BUCKET.as_bytes()))
        && (has(name, b"token") || has(name, b"ttft"))
}

fn has(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

/// Adds a name that is not there yet, within the bounds.
fn push(names: &mut Vec<String>, name: &[u8]) {
    if names.len() == NAME_LIMIT {
        return;
    }
    if let Ok(name) = std::str::from_utf8(name)
        && !names.iter().any(|known| known == name)
    {
        names.push(name.to_owned());
    }
}

/// The words that tell counters of tokens, and the time to the first one, from others.
fn token_words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['_', ':']).filter_map(|word| match word {
        "generation" | "generated" | "generate" | "output" | "completion" => Some("generated"),
        "prompt" | "prompts" | "input" | "prefill" => Some("prompt"),
        "first" | "ttft" => Some("first"),
        _ => None,
    })
}

/// True for times, counters and histograms, which a gauge is not renamed to.
fn is_other_kind(name: &str) -> bool {
    const OTHER: [&str; 10] = [
        "_seconds",
        "_total",
        "_bucket",
        "_sum",
        "_count",
        "_created",
        "time_",
        "_time",
        "duration",
        "throughput",
    ];
    // `nv_inference_pending_request_count` is a gauge.
    OTHER.iter().any(|part| name.contains(part)) && !name.ends_with("_request_count")
}

/// The words of a name that carry its meaning, synonyms as one.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let name = name.split_once('{').map_or(name, |(name, _)| name);
    let key = name.rsplit_once(':').map_or(name, |(_, key)| key);
    key.split('_').filter_map(|word| {
        Some(match word {
            "" | "num" | "number" | "n" | "of" | "the" | "requests" | "request" | "reqs" | "req" | "perc"
            | "percent" | "current" | "size" | "count" | "ray" | "vllm" | "llamacpp" | "sglang" | "tgi" | "trtllm"
            | "lmdeploy" | "nv" | "gpu" | "in" => return None,
            "queue" | "queued" | "pending" | "deferred" | "waiting" => "waiting",
            "active" | "processing" | "scheduled" | "batch" | "running" => "running",
            "usage" | "utilization" | "utilisation" | "util" | "ratio" | "used" | "fraction" => "usage",
            "kv" | "kvcache" | "token" | "tokens" => "kv",
            other => other,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_gauges_are_found_and_times_and_counters_are_not() {
        let mut unread = Unread::default();
        for name in [
            "vllm:requests_queued",
            "vllm:request_queue_time_seconds_sum",
            "vllm:active_requests",
            "vllm:kv_cache_utilization",
            "vllm:kv_cache_utilization",
            "vllm:prefix_cache_hits_total",
            "vllm:mm_cache_size",
        ] {
            unread.note(name.as_bytes());
        }
        assert_eq!(unread.like("vllm:num_requests_waiting"), ["vllm:requests_queued"]);
        assert_eq!(unread.like("vllm:num_requests_running"), ["vllm:active_requests"]);
        assert_eq!(unread.like("vllm:kv_cache_usage_perc"), ["vllm:kv_cache_utilization"]);
        assert_eq!(unread.like("vllm:"), Vec::<&str>::new());
    }
}
