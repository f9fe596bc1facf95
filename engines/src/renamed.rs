//! Counters and histograms that a release not known yet has under another name.
//!
//! Engines make a series when they first count in it, so that one is absent is no fault. It is one only where another that nothing reads stands
//! in its place: of the same engine, of the same kind, with all the words of the name.

use crate::field::Field;
use crate::sample::Engine;
use crate::similar::Unread;

/// A series that is there once requests ran.
struct Counted {
    field: Field,
    /// The newest name.
    name: &'static str,
}

/// A counter or histogram that is absent, with the names that stand in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renamed<'a> {
    pub(crate) name: &'static str,
    pub(crate) similar: Vec<&'a str>,
}

/// The series of `engine` that seem to have another name in the body that `unread` is of.
pub(crate) fn renamed(engine: Engine, is_known: impl Fn(Field) -> bool, unread: &Unread) -> Vec<Renamed<'_>> {
    let similar = |counted: &Counted| match counted.field {
        // Few series are of tokens, so that more words may be in their names.
        Field::PromptTokens | Field::GeneratedTokens | Field::TimeToFirstToken => unread.counting_like(counted.name),
        _ => unread.same_as(counted.name),
    };
    counted(engine)
        .iter()
        .filter(|counted| !is_known(counted.field))
        .map(|counted| Renamed {
            name: counted.name,
            similar: similar(counted),
        })
        .filter(|renamed| !renamed.similar.is_empty())
        .collect()
}

macro_rules! counted {
    ($prefix:literal, $($field:ident $key:literal),* $(,)?) => {
        &[$(Counted {
            field: Field::$field,
            name: concat!($prefix, $key),
        }),*]
    };
}

/// TGI counts tokens in histograms of lengths, and has no time to first token; others have no names to go by.
const fn counted(engine: Engine) -> &'static [Counted] {
    match engine {
        Engine::Vllm => counted!(
            "vllm:",
            PromptTokens "prompt_tokens_total",
            GeneratedTokens "generation_tokens_total",
            Preemptions "num_preemptions_total",
            TimeToFirstToken "time_to_first_token_seconds",
            InterToken "inter_token_latency_seconds",
            EndToEnd "e2e_request_latency_seconds",
            QueueTime "request_queue_time_seconds",
        ),
        Engine::Sglang => counted!(
            "sglang:",
            PromptTokens "prompt_tokens_total",
            GeneratedTokens "generation_tokens_total",
            Preemptions "num_retracted_requests_total",
            TimeToFirstToken "time_to_first_token_seconds",
            InterToken "inter_token_latency_seconds",
            EndToEnd "e2e_request_latency_seconds",
            QueueTime "queue_time_seconds",
        ),
        Engine::TensorRtLlm => counted!(
            "trtllm_",
            PromptTokens "prompt_tokens_total",
            GeneratedTokens "generation_tokens_total",
            TimeToFirstToken "time_to_first_token_seconds",
            EndToEnd "e2e_request_latency_seconds",
            QueueTime "request_queue_time_seconds",
        ),
        Engine::LmDeploy => counted!(
            "lmdeploy:",
            PromptTokens "prompt_tokens_total",
            GeneratedTokens "generation_tokens_total",
            TimeToFirstToken "time_to_first_token_seconds",
            InterToken "iter_token_latency",
            EndToEnd "e2e_request_latency_seconds",
            QueueTime "request_queue_time_seconds",
        ),
        Engine::Tgi | Engine::LlamaCpp | Engine::Triton | Engine::Nim | Engine::Ollama | Engine::Custom => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_place_of_an_absent_one_is_told_and_nothing_else() {
        const GENERATED: &str = "vllm:generation_tokens_total";
        const FIRST: &str = "vllm:time_to_first_token_seconds";
        for (unread, expected) in [
            // Not counted yet.
            (&[][..], &[][..]),
            (
                &["vllm:output_tokens_total"][..],
                &[(GENERATED, "vllm:output_tokens_total")][..],
            ),
            (
                &["vllm:generated_tokens_total", "vllm:ttft_seconds_bucket"],
                &[(GENERATED, "vllm:generated_tokens_total"), (FIRST, "vllm:ttft_seconds")],
            ),
            (
                &["vllm:first_token_latency_seconds_bucket"],
                &[(FIRST, "vllm:first_token_latency_seconds")],
            ),
            // Another kind, or another thing.
            (&["vllm:generated_tokens_bucket", "vllm:generated_tokens"], &[]),
            (&["vllm:first_token_total", "vllm:ttft_seconds"], &[]),
            (&["vllm:spec_decode_num_draft_tokens_total"], &[]),
            (&["vllm:time_per_output_token_seconds_bucket"], &[]),
            (&["vllm:iteration_tokens_total_bucket"], &[]),
            (
                &[
                    "vllm:inter_token_latency_secs_bucket",
                    "vllm:end_to_end_latency_ms_bucket",
                ],
                &[
                    ("vllm:inter_token_latency_seconds", "vllm:inter_token_latency_secs"),
                    ("vllm:e2e_request_latency_seconds", "vllm:end_to_end_latency_ms"),
                ],
            ),
            (
                &[
                    "vllm:request_preemptions_total",
                    "vllm:queueing_duration_seconds_bucket",
                ],
                &[
                    ("vllm:num_preemptions_total", "vllm:request_preemptions_total"),
                    ("vllm:request_queue_time_seconds", "vllm:queueing_duration_seconds"),
                ],
            ),
            // More than it, another kind, or no time.
            (&["vllm:kv_transfer_queue_time_seconds_bucket"], &[]),
            (
                &[
                    "vllm:request_queue_time_seconds_total",
                    "vllm:request_num_preemptions_bucket",
                ],
                &[],
            ),
            (&["vllm:request_queue_bucket", "vllm:latency_seconds_bucket"], &[]),
        ] {
            let mut names = Unread::default();
            unread.iter().for_each(|name| names.note(name.as_bytes()));
            let told = renamed(Engine::Vllm, |field| field == Field::PromptTokens, &names);
            let told: Vec<(&str, &str)> = told
                .iter()
                .flat_map(|renamed| renamed.similar.iter().map(|similar| (renamed.name, *similar)))
                .collect();
            assert_eq!(told, expected, "{unread:?}");
            assert_eq!(renamed(Engine::Vllm, |_| true, &names), []);
            assert_eq!(renamed(Engine::Tgi, |_| false, &names), []);
        }
    }
}
