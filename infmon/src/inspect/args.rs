//! Command line of `infmon inspect`.

use super::source::Source;
use crate::access::AccessFiles;
use clap::builder::{OsStringValueParser, TypedValueParser};
use infmon_engines::Engine;

const AFTER_HELP: &str = "\
Exit codes:
  0   an inference server, also when series are missing
  1   no body: the file cannot be read, or the server gave none
  2   readable, but not an inference server, not the one that --engine names, or without a series of --mapping
  3   malformed
  64  wrong use of the command line, or no valid mapping in the file of --mapping

Examples:
  infmon inspect metrics.txt
  infmon inspect metrics.txt --slots slots.json
  infmon inspect http://127.0.0.1:8000 --json
  infmon inspect metrics.txt --mapping monitor.yaml
  infmon inspect https://llm.example.com --bearer-token-file token
  kubectl get --raw /api/v1/namespaces/prod/pods/vllm-0:8000/proxy/metrics | infmon inspect -";

/// `infmon inspect`
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Inspect {
    /// File with a metrics body, URL of a server, or `-` for standard input
    ///
    /// A URL without a path is asked for /metrics, or where its engine has them; a llama-server for /props and /slots as well, and
    /// SGLang for /v1/loads. Credentials of the options below go to the host of this URL alone, over https:// or to this machine. A
    /// certificate is verified when any of these options is given; without, nothing secret is sent, and any certificate will do.
    #[arg(value_name = "FILE|URL|-", value_parser = source())]
    pub body: Source,
    /// What llama-server answers on /slots: file, URL, or `-`
    #[arg(long, value_name = "FILE|URL|-", value_parser = source())]
    pub slots: Option<Source>,
    /// What llama-server answers on /props: file, URL, or `-`
    #[arg(long, value_name = "FILE|URL|-", value_parser = source())]
    pub props: Option<Source>,
    /// What SGLang answers on /v1/loads: file, URL, or `-`
    #[arg(long, value_name = "FILE|URL|-", value_parser = source())]
    pub loads: Option<Source>,
    /// Take the body as that of this engine, as spec.engine does; by default its content tells
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<Engine>,
    /// Read the body by the spec.custom of this file: an InferenceMonitor, or that part of one alone; `-` is standard input
    ///
    /// The engine is Custom then.
    #[arg(long, value_name = "FILE|-", value_parser = source())]
    pub mapping: Option<Source>,
    /// Print the sample as JSON, and nothing else
    #[arg(long)]
    pub json: bool,
    /// What the server is shown.
    #[command(flatten)]
    pub access: AccessFiles,
}

fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().try_map(|text| Source::parse(&text))
}

fn engine(text: &str) -> Result<Engine, String> {
    let known = Engine::ALL.into_iter();
    known
        .clone()
        .find(|engine| engine.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            let names: Vec<&str> = known.map(Engine::as_str).collect();
            format!("write one of {}", names.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named_as_in_the_spec_in_any_case() {
        assert_eq!(engine("VLLM"), Ok(Engine::Vllm));
        assert_eq!(engine("llamacpp"), Ok(Engine::LlamaCpp));
        assert!(engine("auto").is_err_and(|error| error.contains("VLLM, LlamaCpp, SGLang")));
    }
}
