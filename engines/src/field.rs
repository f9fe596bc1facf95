//! The fields of a sample, as the tables of the engines name them.

use crate::sample::{EngineSample, Histogram, Latency};

/// A number of an [`EngineSample`], or a histogram of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Requests that wait.
    Waiting,
    /// Requests that run.
    Running,
    /// Requests that can run at once.
    MaxConcurrency,
    /// KV cache in use.
    KvCacheUsage,
    /// Tokens that the KV cache holds.
    KvCapacity,
    /// Host cache in use.
    HostCacheUsage,
    /// Prompt tokens.
    PromptTokens,
    /// Generated tokens.
    GeneratedTokens,
    /// Requests evicted for memory.
    Preemptions,
    /// Prompt tokens found in the prefix cache.
    PrefixHitTokens,
    /// Prompt tokens looked up there.
    PrefixQueryTokens,
    /// Share of them that was found.
    PrefixHitRatio,
    /// Requests that ended well.
    RequestsSucceeded,
    /// Requests that did not.
    RequestsFailed,
    /// 1 while the engine is awake; turned round into `sleeping`.
    Awake,
    /// Time to first token.
    TimeToFirstToken,
    /// Time between two tokens.
    InterToken,
    /// Mean time per token of a request.
    PerOutputToken,
    /// Arrival to last token.
    EndToEnd,
    /// Time in the queue.
    QueueTime,
}

/// What kind of number a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// How many there are now.
    Gauge,
    /// How many there have been.
    Counter,
    /// 0 to 1.
    Ratio,
    /// A histogram of seconds.
    Latency,
}

impl Field {
    /// The fields that `spec.custom` of an `InferenceMonitor` may name.
    pub const MAPPABLE: [Self; 19] = [
        Self::Waiting,
        Self::Running,
        Self::MaxConcurrency,
        Self::KvCacheUsage,
        Self::KvCapacity,
        Self::HostCacheUsage,
        Self::PromptTokens,
        Self::GeneratedTokens,
        Self::Preemptions,
        Self::PrefixHitTokens,
        Self::PrefixQueryTokens,
        Self::PrefixHitRatio,
        Self::RequestsSucceeded,
        Self::RequestsFailed,
        Self::TimeToFirstToken,
        Self::InterToken,
        Self::PerOutputToken,
        Self::EndToEnd,
        Self::QueueTime,
    ];

    /// The name in the JSON form of a sample.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

    /// The name in `spec.custom`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Running => "Running",
            Self::MaxConcurrency => "MaxConcurrency",
            Self::KvCacheUsage => "KVCacheUsage",
            Self::KvCapacity => "KVCacheCapacityTokens",
            Self::HostCacheUsage => "HostCacheUsage",
            Self::PromptTokens => "PromptTokensTotal",
            Self::GeneratedTokens => "GeneratedTokensTotal",
            Self::Preemptions => "PreemptionsTotal",
            Self::PrefixHitTokens => "PrefixCacheHitTokensTotal",
            Self::PrefixQueryTokens => "PrefixCacheQueryTokensTotal",
            Self::PrefixHitRatio => "PrefixCacheHitRatio",
            Self::RequestsSucceeded => "RequestsSucceededTotal",
            Self::RequestsFailed => "RequestsFailedTotal",
            Self::Awake => "Awake",
            Self::TimeToFirstToken => "TimeToFirstToken",
            Self::InterToken => "InterToken",
            Self::PerOutputToken => "PerOutputToken",
            Self::EndToEnd => "EndToEnd",
            Self::QueueTime => "QueueTime",
        }
    }

    /// The field of a name in `spec.custom`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::MAPPABLE.into_iter().find(|field| field.as_str() == name)
    }

    /// What kind of number it is.
    #[must_use]
    pub const fn quantity(self) -> Quantity {
        match self {
            Self::Waiting | Self::Running | Self::MaxConcurrency | Self::KvCapacity | Self::Awake => Quantity::Gauge,
            Self::KvCacheUsage | Self::HostCacheUsage | Self::PrefixHitRatio => Quantity::Ratio,
            Self::PromptTokens
            | Self::GeneratedTokens
            | Self::Preemptions
            | Self::PrefixHitTokens
            | Self::PrefixQueryTokens
            | Self::RequestsSucceeded
            | Self::RequestsFailed => Quantity::Counter,
            Self::TimeToFirstToken | Self::InterToken | Self::PerOutputToken | Self::EndToEnd | Self::QueueTime => {
                Quantity::Latency
            }
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
    /// One of the values that are added up, whatever the field.
    Addend,
    /// One of the values of which the greatest counts, whatever the field.
    Candidate,
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

/// True when the sample tells the field.
pub(crate) const fn is_known(sample: &EngineSample, field: Field) -> bool {
    let latency = &sample.latency;
    match field {
        Field::Waiting => sample.waiting.is_some(),
        Field::Running => sample.running.is_some(),
        Field::MaxConcurrency => sample.max_concurrency.is_some(),
        Field::KvCacheUsage => sample.kv_cache_usage.is_some(),
        Field::KvCapacity => sample.kv_cache_capacity_tokens.is_some(),
        Field::HostCacheUsage => sample.host_cache_usage.is_some(),
        Field::PromptTokens => sample.prompt_tokens_total.is_some(),
        Field::GeneratedTokens => sample.generated_tokens_total.is_some(),
        Field::Preemptions => sample.preemptions_total.is_some(),
        Field::PrefixHitTokens => sample.prefix_cache_hit_tokens_total.is_some(),
        Field::PrefixQueryTokens => sample.prefix_cache_query_tokens_total.is_some(),
        Field::PrefixHitRatio => sample.prefix_cache_hit_ratio.is_some(),
        Field::RequestsSucceeded => sample.requests_succeeded_total.is_some(),
        Field::RequestsFailed => sample.requests_failed_total.is_some(),
        Field::Awake => sample.sleeping.is_some(),
        Field::TimeToFirstToken => latency.time_to_first_token.is_some(),
        Field::InterToken => latency.inter_token.is_some(),
        Field::PerOutputToken => latency.per_output_token.is_some(),
        Field::EndToEnd => latency.end_to_end.is_some(),
        Field::QueueTime => latency.queue_time.is_some(),
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
