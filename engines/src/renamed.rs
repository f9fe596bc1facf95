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
    counted(engine)
        .iter()
        .filter(|counted| !is_known(counted.field))
        .map(|counted| Renamed {
            name: counted.name,
            similar: unread.counting_like(counted.name),
        })
        .filter(|renamed| !renamed.similar.is_empty())
        .collect()
}

macro_rules! counted {
    ($prefix:literal) => {
        &[
            Counted {
                field: Field::PromptTokens,
                name: concat!($prefix, "prompt_tokens_total"),
            },
            Counted {
                field: Field::GeneratedTokens,
                name: concat!($prefix, "generation_tokens_total"),
            },
            Counted {
                field: Field::TimeToFirstToken,
                name: concat!($prefix, "time_to_first_token_seconds"),
            },
        ]
    };
}

/// TGI counts tokens in histograms of lengths, and has no time to first token; others have no names to go by.
const fn counted(engine: Engine) -> &'static [Counted] {
    match engine {
        Engine::Vllm => counted!("vllm:"),
        Engine::Sglang => counted!("sglang:"),
        Engine::TensorRtLlm => counted!("trtllm_"),
        Engine::LmDeploy => counted!("lmdeploy:"),
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
