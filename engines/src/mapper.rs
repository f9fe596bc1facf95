//! Which engine's way of reading a body is taken.

use crate::custom::{self, Mapping};
use crate::error::ReadError;
use crate::exposition::Sample;
use crate::layout::Use;
use crate::plan::Plan;
use crate::sample::Engine;
use crate::{dialect, llamacpp, lmdeploy, nim, sglang, tgi, triton, trtllm, vllm};

/// An engine's way of reading its series.
#[derive(Debug)]
pub(crate) struct Mapper {
    way: Way,
    /// The product that serves the series of another engine, and what its generation begins with.
    served_by: Option<(Engine, &'static str)>,
}

#[derive(Debug)]
enum Way {
    Vllm(vllm::Mapper),
    LlamaCpp(llamacpp::Mapper),
    Triton(triton::Mapper),
    Table(dialect::Mapper),
    Custom(custom::Mapper),
}

impl Mapper {
    /// The way of `forced`, the engine that the user named, or else of `found`. NIM 2.x serves what vLLM or SGLang serve. `mapping` is that of
    /// [`Engine::Custom`].
    pub(crate) fn new(forced: Option<Engine>, found: Option<Engine>, mapping: &Mapping) -> Self {
        let behind = nim::BEHIND.into_iter().find(|(engine, _)| found == Some(*engine));
        match behind.filter(|_| forced == Some(Engine::Nim)) {
            Some((engine, generation)) => Self {
                way: Way::of(engine, mapping),
                served_by: Some((Engine::Nim, generation)),
            },
            // The body may still be something else altogether: a fault of its text says more than its names.
            None => Self {
                way: Way::of(forced.or(found).unwrap_or(Engine::Vllm), mapping),
                served_by: None,
            },
        }
    }

    /// Takes a declared family into account.
    pub(crate) fn family(&mut self, name: &[u8]) {
        match &mut self.way {
            Way::Vllm(mapper) => mapper.family(name),
            Way::LlamaCpp(mapper) => mapper.family(name),
            Way::Triton(mapper) => mapper.family(name),
            Way::Table(mapper) => mapper.family(name),
            Way::Custom(mapper) => mapper.family(name),
        }
    }

    /// Takes a sample into account. Where the reading depends on its value, that is the value number `value`.
    pub(crate) fn sample(&mut self, sample: &Sample<'_>, value: u32) -> Use {
        match &mut self.way {
            Way::Vllm(mapper) => mapper.sample(sample, value).into(),
            Way::LlamaCpp(mapper) => mapper.sample(sample, value).into(),
            Way::Triton(mapper) => mapper.sample(sample, value),
            Way::Table(mapper) => mapper.sample(sample, value).into(),
            Way::Custom(mapper) => mapper.sample(sample, value).into(),
        }
    }

    /// True when the body holds or declares a series of the engine.
    pub(crate) fn recognised(&self) -> bool {
        match &self.way {
            Way::Vllm(mapper) => mapper.recognised(),
            Way::LlamaCpp(mapper) => mapper.recognised(),
            Way::Triton(mapper) => mapper.recognised(),
            Way::Table(mapper) => mapper.recognised(),
            Way::Custom(mapper) => mapper.recognised(),
        }
    }

    /// True when a body that was found to be of `found` is one that the user may have meant by `forced`.
    pub(crate) fn fits(forced: Engine, found: Engine) -> bool {
        forced == found || matches!((forced, found), (Engine::Nim, Engine::Vllm | Engine::Sglang))
    }

    /// Why a body that the user maps gives nothing; `None` where it gives something, and for engines that are known.
    pub(crate) fn not_mapped(&self) -> Option<ReadError> {
        match &self.way {
            Way::Custom(mapper) => mapper.not_mapped(),
            _ => None,
        }
    }

    pub(crate) fn finish(self) -> Plan {
        let plan = match self.way {
            Way::Vllm(mapper) => mapper.finish(),
            Way::LlamaCpp(mapper) => mapper.finish(),
            Way::Triton(mapper) => mapper.finish(),
            Way::Table(mapper) => mapper.finish(),
            Way::Custom(mapper) => mapper.finish(),
        };
        match self.served_by {
            Some((engine, generation)) => plan.served_by(engine, generation),
            None => plan,
        }
    }
}

impl Way {
    fn of(engine: Engine, mapping: &Mapping) -> Self {
        let table = |dialect| Self::Table(dialect::Mapper::new(dialect));
        match engine {
            Engine::Vllm => Self::Vllm(vllm::Mapper::default()),
            Engine::LlamaCpp => Self::LlamaCpp(llamacpp::Mapper::default()),
            Engine::Triton => Self::Triton(triton::Mapper::default()),
            Engine::Sglang => table(&sglang::DIALECT),
            Engine::TensorRtLlm => table(&trtllm::DIALECT),
            Engine::Tgi => table(&tgi::DIALECT),
            Engine::LmDeploy => table(&lmdeploy::DIALECT),
            Engine::Nim => table(&nim::DIALECT),
            Engine::Ollama => table(&crate::ollama::DIALECT),
            Engine::Custom => Self::Custom(custom::Mapper::new(mapping.clone())),
        }
    }
}
