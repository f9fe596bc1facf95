//! Reads what inference servers expose: exposition parser, engine detection, one model for all; pure, no I/O.
//!
//! [`BodyReader`] turns the metrics bodies of one target into [`Reading`]s, [`merge_slots`], [`merge_loads`] and their like add what servers tell only
//! as JSON, and [`explain_http`] says what an HTTP error of a metrics path means. An engine is a module with a table of series,
//! newest names first, and the few facts that a table cannot hold. For any other server the user gives the table, as a [`Mapping`].

mod absence;
mod collector;
mod custom;
mod detect;
mod dialect;
mod documents;
mod error;
mod explanation;
pub mod exposition;
mod families;
mod field;
mod histogram;
mod info;
mod inspection;
mod json;
mod label_hash;
mod layout;
mod llamacpp;
mod lmdeploy;
mod loads;
mod mapper;
mod model_list;
mod nim;
mod ollama;
mod outcomes;
mod plan;
mod props;
mod reader;
mod renamed;
mod repeated;
mod router;
mod sample;
mod scalar;
mod sglang;
mod similar;
mod slots;
mod tgi;
mod triton;
mod trtllm;
mod vllm;

pub use absence::{Absence, why_absent};
pub use custom::{Aggregation, MappedSeries, Mapping, MappingError, Unit};
pub use error::ReadError;
pub use explanation::{Explanation, HttpProblem, explain_http, explain_http_of};
pub use families::{Family, families};
pub use field::{Field, Quantity};
pub use info::{Info, merge_info, read_info};
pub use inspection::{FieldSource, Inspection, inspect, inspect_custom};
pub use loads::{Loads, merge_loads, read_loads};
pub use model_list::{merge_model_list, read_model_list};
pub use outcomes::{OTHER_REASONS, REASON_LIMIT};
pub use props::{Props, merge_props, read_props};
pub use reader::{BodyReader, Reading};
pub use router::{TooManyModels, merge_models, read_router_models, router_query};
pub use sample::{Engine, EngineSample, Histogram, Latency};
pub use slots::{Slots, SlotsError, merge_slots, read_slots};
