//! Samples of inference servers.

use super::DecodeError;
use super::histogram::BoundsTable;
use crate::wire;
use infmon_engines::{Engine, EngineSample, Histogram, Latency, REASON_LIMIT};

pub(super) fn encode_sample(sample: &EngineSample, bounds: &mut BoundsTable) -> wire::EngineSample {
    let EngineSample {
        engine,
        generation,
        models,
        waiting,
        running,
        max_concurrency,
        kv_cache_usage,
        kv_cache_capacity_tokens,
        host_cache_usage,
        prompt_tokens_total,
        generated_tokens_total,
        preemptions_total,
        prefix_cache_hit_tokens_total,
        prefix_cache_query_tokens_total,
        prefix_cache_hit_ratio,
        requests_succeeded_total,
        requests_failed_total,
        request_outcomes,
        lora_adapters,
        sleeping,
        model_gpu_share,
        latency,
    } = sample;
    let Latency {
        time_to_first_token,
        inter_token,
        per_output_token,
        end_to_end,
        queue_time,
    } = latency;
    let mut histogram = |h: &Option<Histogram>| h.as_ref().map(|h| bounds.encode_histogram(h));
    wire::EngineSample {
        engine: engine.map_or_else(String::new, |engine| engine.as_str().to_owned()),
        generation: generation.clone(),
        models: models.clone(),
        waiting: *waiting,
        running: *running,
        max_concurrency: *max_concurrency,
        kv_cache_usage: *kv_cache_usage,
        kv_cache_capacity_tokens: *kv_cache_capacity_tokens,
        host_cache_usage: *host_cache_usage,
        prompt_tokens_total: *prompt_tokens_total,
        generated_tokens_total: *generated_tokens_total,
        preemptions_total: *preemptions_total,
        prefix_cache_hit_tokens_total: *prefix_cache_hit_tokens_total,
        prefix_cache_query_tokens_total: *prefix_cache_query_tokens_total,
        prefix_cache_hit_ratio: *prefix_cache_hit_ratio,
        requests_succeeded_total: *requests_succeeded_total,
        requests_failed_total: *requests_failed_total,
        lora_adapters: lora_adapters.clone(),
        sleeping: *sleeping,
        model_gpu_share: *model_gpu_share,
        time_to_first_token: histogram(time_to_first_token),
        inter_token: histogram(inter_token),
        per_output_token: histogram(per_output_token),
        end_to_end: histogram(end_to_end),
        queue_time: histogram(queue_time),
        request_outcomes: request_outcomes
            .iter()
            .map(|(reason, total)| wire::RequestOutcome {
                reason: reason.clone(),
                total: *total,
            })
            .collect(),
    }
}

pub(super) fn decode_sample(sample: wire::EngineSample, bounds: &BoundsTable) -> Result<EngineSample, DecodeError> {
    let histogram = |h: Option<wire::Histogram>| h.map(|h| bounds.decode_histogram(h)).transpose();
    Ok(EngineSample {
        engine: Engine::from_name(&sample.engine),
        generation: sample.generation,
        models: sample.models,
        waiting: sample.waiting,
        running: sample.running,
        max_concurrency: sample.max_concurrency,
        kv_cache_usage: sample.kv_cache_usage,
        kv_cache_capacity_tokens: sample.kv_cache_capacity_tokens,
        host_cache_usage: sample.host_cache_usage,
        prompt_tokens_total: sample.prompt_tokens_total,
        generated_tokens_total: sample.generated_tokens_total,
        preemptions_total: sample.preemptions_total,
        prefix_cache_hit_tokens_total: sample.prefix_cache_hit_tokens_total,
        prefix_cache_query_tokens_total: sample.prefix_cache_query_tokens_total,
        prefix_cache_hit_ratio: sample.prefix_cache_hit_ratio,
        requests_succeeded_total: sample.requests_succeeded_total,
        requests_failed_total: sample.requests_failed_total,
        request_outcomes: sample
            .request_outcomes
            .into_iter()
            .take(REASON_LIMIT)
            .map(|outcome| (outcome.reason, outcome.total))
            .collect(),
        lora_adapters: sample.lora_adapters,
        sleeping: sample.sleeping,
        model_gpu_share: sample.model_gpu_share,
        latency: Latency {
            time_to_first_token: histogram(sample.time_to_first_token)?,
            inter_token: histogram(sample.inter_token)?,
            per_output_token: histogram(sample.per_output_token)?,
            end_to_end: histogram(sample.end_to_end)?,
            queue_time: histogram(sample.queue_time)?,
        },
    })
}
