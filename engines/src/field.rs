//! The fields of a sample, as the tables of the engines name them.

use crate::sample::{EngineSample, Histogram, Latency};

/// A number of an [`EngineSample`], or a histogram of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Waiting,
    Running,
    MaxConcurrency,
    KvCacheUsage,
    KvCapacity,
    HostCacheUsage,
    PromptTokens,
    GeneratedTokens,
    Preemptions,
    PrefixHitTokens,
    PrefixQueryTokens,
    PrefixHitRatio,
    RequestsSucceeded,
    RequestsFailed,
    /// 1 while the engine is awake; turned round into `sleeping`.
    Awake,
    TimeToFirstToken,
    InterToken,
    PerOutputToken,
    EndToEnd,
    QueueTime,
}

impl Field {
    /// The name in the JSON form of a sample.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::MaxConcurrency => "maxConcurrency",
            Self::KvCacheUsage => "kvCacheUsage",
            Self::KvCapacity => "kvCacheCapacityTokens",
            Self::HostCacheUsage => "hostCacheUsage",
            Self::PromptTokens => "promptTokensTotal",
            Self::GeneratedTokens => "generatedTokensTotal",
            Self::Preemptions => "preemptionsTotal",
            Self::PrefixHitTokens => "prefixCacheHitTokensTotal",
            Self::PrefixQueryTokens => "prefixCacheQueryTokensTotal",
            Self::PrefixHitRatio => "prefixCacheHitRatio",
            Self::RequestsSucceeded => "requestsSucceededTotal",
            Self::RequestsFailed => "requestsFailedTotal",
            Self::Awake => "sleeping",
            Self::TimeToFirstToken => "latency.timeToFirstToken",
            Self::InterToken => "latency.interToken",
            Self::PerOutputToken => "latency.perOutputToken",
            Self::EndToEnd => "latency.endToEnd",
            Self::QueueTime => "latency.queueTime",
        }
    }
}

/// The part of a field that one series carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    /// A gauge or counter, or the only value there is.
    Whole,
    /// A cumulative histogram bucket with its upper bound.
    Bucket(f64),
    /// The sum of a histogram.
    Sum,
    /// The count of a histogram.
    Count,
    /// The sum of a latency that has no buckets: a plain counter of time.
    MeanSum,
    /// The number of observations of such a latency.
    MeanCount,
    /// The used part of a share, or one factor of a product.
    First,
    /// The whole of a share, or the other factor.
    Second,
}

/// A number of a sample that conditions may need.
pub(crate) fn scalar(sample: &EngineSample, field: Field) -> Option<f64> {
    match field {
        Field::Waiting => sample.waiting,
        Field::Running => sample.running,
        Field::KvCacheUsage => sample.kv_cache_usage,
        _ => None,
    }
}

pub(crate) fn set_scalar(sample: &mut EngineSample, field: Field, value: Option<f64>) {
    let place = match field {
        Field::Waiting => &mut sample.waiting,
        Field::Running => &mut sample.running,
        Field::MaxConcurrency => &mut sample.max_concurrency,
        Field::KvCacheUsage => &mut sample.kv_cache_usage,
        Field::KvCapacity => &mut sample.kv_cache_capacity_tokens,
        Field::HostCacheUsage => &mut sample.host_cache_usage,
        Field::PromptTokens => &mut sample.prompt_tokens_total,
        Field::GeneratedTokens => &mut sample.generated_tokens_total,
        Field::Preemptions => &mut sample.preemptions_total,
        Field::PrefixHitTokens => &mut sample.prefix_cache_hit_tokens_total,
        Field::PrefixQueryTokens => &mut sample.prefix_cache_query_tokens_total,
        Field::PrefixHitRatio => &mut sample.prefix_cache_hit_ratio,
        Field::RequestsSucceeded => &mut sample.requests_succeeded_total,
        Field::RequestsFailed => &mut sample.requests_failed_total,
        Field::Awake => {
            sample.sleeping = value.map(|awake| awake == 0.0);
            return;
        }
        Field::TimeToFirstToken | Field::InterToken | Field::PerOutputToken | Field::EndToEnd | Field::QueueTime => {
            return;
        }
    };
    *place = value;
}

/// The buckets of a histogram that is made anew, for the new ones.
pub(crate) fn take_buckets(latency: &mut Latency, field: Field) -> Vec<(Option<f64>, f64)> {
    let place = match field {
        Field::TimeToFirstToken => &mut latency.time_to_first_token,
        Field::InterToken => &mut latency.inter_token,
        Field::PerOutputToken => &mut latency.per_output_token,
        Field::EndToEnd => &mut latency.end_to_end,
        Field::QueueTime => &mut latency.queue_time,
        _ => return Vec::new(),
    };
    place.take().map(|histogram| histogram.buckets).unwrap_or_default()
}

pub(crate) fn set_histogram(sample: &mut EngineSample, field: Field, histogram: Option<Histogram>) {
    let latency = &mut sample.latency;
    match field {
        Field::TimeToFirstToken => latency.time_to_first_token = histogram,
        Field::InterToken => latency.inter_token = histogram,
        Field::PerOutputToken => latency.per_output_token = histogram,
        Field::EndToEnd => latency.end_to_end = histogram,
        Field::QueueTime => latency.queue_time = histogram,
        _ => {}
    }
}
