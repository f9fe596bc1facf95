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
}

impl Unread {
    /// Takes a name of a sample line into account.
    pub(crate) fn note(&mut self, name: &[u8]) {
        // Most names of a body; of no other kind than `is_other_kind` says, and told by their end.
        let other_kind: [&[u8]; 4] = [b"_bucket", b"_created", b"_total", b"_sum"];
        if other_kind.iter().any(|end| name.ends_with(end))
            || self.names.last().is_some_and(|last| last.as_bytes() == name)
            || self.names.len() == NAME_LIMIT
            || name.len() > NAME_BYTES
        {
            return;
        }
        if let Ok(name) = std::str::from_utf8(name)
            && !self.names.iter().any(|known| known == name)
        {
            self.names.push(name.to_owned());
        }
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
