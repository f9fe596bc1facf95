//! A language model of random weights: a few MB, the same bytes each time, and as much a model to llama-server as any other.
//!
//! It says nothing sensible, which nobody asks of it: with `ignore_eos` it generates as many tokens as are wanted, and so makes
//! the load and the queue of a real server.

use std::{collections::BTreeMap, io, path::Path};

use crate::gguf::{Gguf, Tensor, Value};

/// Kinds of tokens, in the numbers of the format.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const BEGIN: &str = "<s>";
const END: &str = "</s>";

/// Size of the model; the default is that of the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyModel {
    /// Weights are drawn from this.
    pub seed: u64,
    /// Numbers per token; a multiple of `heads`.
    pub embedding: u32,
    /// Width of the feed-forward layer.
    pub feed_forward: u32,
    /// Attention heads.
    pub heads: u32,
    /// Blocks.
    pub blocks: u32,
    /// Tokens that the model says it was trained for.
    pub context: u32,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self {
            seed: 1,
            embedding: 128,
            feed_forward: 256,
            heads: 4,
            blocks: 2,
            context: 4096,
        }
    }
}

impl TinyModel {
    /// Writes the model to a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.gguf().write(io::BufWriter::new(std::fs::File::create(path)?))
    }

    /// The model.
    #[must_use]
    pub fn gguf(&self) -> Gguf {
        let vocabulary = Vocabulary::new();
        Gguf {
            metadata: self.metadata(&vocabulary),
            tensors: self.tensors(vocabulary.tokens.len() as u64),
        }
    }

    fn metadata(&self, vocabulary: &Vocabulary) -> Vec<(String, Value)> {
        let last = vocabulary.tokens.len() as u32 - 1;
        let metadata = [
            ("general.architecture", Value::Text("llama".into())),
            ("general.name", Value::Text("tiny random".into())),
            ("llama.context_length", Value::U32(self.context)),
            ("llama.embedding_length", Value::U32(self.embedding)),
            ("llama.block_count", Value::U32(self.blocks)),
            ("llama.feed_forward_length", Value::U32(self.feed_forward)),
            ("llama.attention.head_count", Value::U32(self.heads)),
            ("llama.attention.head_count_kv", Value::U32(self.heads)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            (
                "llama.rope.dimension_count",
                Value::U32(self.embedding / self.heads.max(1)),
            ),
            ("llama.vocab_size", Value::U32(last + 1)),
            ("tokenizer.ggml.model", Value::Text("gpt2".into())),
            ("tokenizer.ggml.pre", Value::Text("default".into())),
            ("tokenizer.ggml.tokens", Value::Texts(vocabulary.tokens.clone())),
            ("tokenizer.ggml.token_type", Value::Numbers(vocabulary.kinds.clone())),
            ("tokenizer.ggml.merges", Value::Texts(vocabulary.merges.clone())),
            ("tokenizer.ggml.bos_token_id", Value::U32(last - 1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(last)),
        ];
        metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn tensors(&self, tokens: u64) -> Vec<Tensor> {
        let mut random = Random(self.seed);
        let (embedding, feed_forward) = (u64::from(self.embedding), u64::from(self.feed_forward));
        let mut tensors = vec![
            random.matrix("token_embd.weight".into(), embedding, tokens),
            ones("output_norm.weight".into(), embedding),
            random.matrix("output.weight".into(), embedding, tokens),
        ];
        for block in 0..self.blocks {
            let name = |part: &str| format!("blk.{block}.{part}.weight");
            tensors.push(ones(name("attn_norm"), embedding));
            tensors.push(ones(name("ffn_norm"), embedding));
            for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                tensors.push(random.matrix(name(part), embedding, embedding));
            }
            tensors.push(random.matrix(name("ffn_gate"), embedding, feed_forward));
            tensors.push(random.matrix(name("ffn_up"), embedding, feed_forward));
            tensors.push(random.matrix(name("ffn_down"), feed_forward, embedding));
        }
        tensors
    }
}

fn ones(name: String, size: u64) -> Tensor {
    Tensor {
        name,
        sizes: vec![size],
        numbers: vec![1.0; size as usize],
    }
}

/// Splitmix64: a generator whose numbers no version of a crate can change.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Weights that keep the size of what goes through them: evenly spread, with the variance 1 / inputs.
    fn matrix(&mut self, name: String, inputs: u64, outputs: u64) -> Tensor {
        let bound = (3.0 / inputs.max(1) as f32).sqrt();
        // 24 bits are what a float holds exactly.
        let unit = 1.0 / (1 << 24) as f32;
        let numbers = (0..inputs * outputs)
            .map(|_| ((self.next() >> 40) as f32 * unit).mul_add(2.0, -1.0) * bound)
            .collect();
        Tensor {
            name,
            sizes: vec![inputs, outputs],
            numbers,
        }
    }
}

/// Every byte, some pairs of them, begin and end.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<String>,
}

impl Vocabulary {
    fn new() -> Self {
        let letters = byte_letters();
        let mut tokens: Vec<String> = letters.values().map(ToString::to_string).collect();
        // A tokenizer of this kind without a merge is refused.
        let merges: Vec<String> = ["t h", "h e", "i n"].map(String::from).to_vec();
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let mut kinds = vec![NORMAL; tokens.len()];
        tokens.extend([BEGIN, END].map(String::from));
        kinds.extend([CONTROL; 2]);
        Self { tokens, kinds, merges }
    }
}

/// The letter that stands for each byte in vocabularies of GPT-2: itself where it can be seen, else one from 256 on.
fn byte_letters() -> BTreeMap<u8, char> {
    let mut hidden = (256..).filter_map(char::from_u32);
    (0..=u8::MAX)
        .filter_map(|byte| {
            let seen = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let letter = if seen { Some(char::from(byte)) } else { hidden.next() };
            Some((byte, letter?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{TinyModel, Vocabulary, byte_letters};
    use crate::gguf::Value;

    fn bytes(model: &TinyModel) -> Vec<u8> {
        let mut bytes = Vec::new();
        model.gguf().write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_same_model_has_the_same_bytes() {
        let model = TinyModel::default();
        assert_eq!(bytes(&model), bytes(&model));
        let other = TinyModel {
            seed: 2,
            ..model.clone()
        };
        assert_ne!(bytes(&model), bytes(&other));
        assert!((1_000_000..4_000_000).contains(&bytes(&model).len()), "a few MB");
    }

    #[test]
    fn sizes_fit_each_other() {
        let model = TinyModel::default();
        let gguf = model.gguf();
        let vocabulary = Vocabulary::new();
        assert_eq!(vocabulary.tokens.len(), vocabulary.kinds.len());
        assert_eq!(gguf.tensors.len(), 3 + 9 * model.blocks as usize);
        for tensor in &gguf.tensors {
            assert_eq!(tensor.sizes.iter().product::<u64>(), tensor.numbers.len() as u64);
            assert!(tensor.numbers.iter().all(|number| number.is_finite()));
        }
        let of = |name: &str| {
            gguf.metadata
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
        };
        assert_eq!(
            of("llama.vocab_size"),
            Some(&Value::U32(vocabulary.tokens.len() as u32))
        );
        assert_eq!(of("llama.rope.dimension_count"), Some(&Value::U32(32)));
    }

    #[test]
    fn weights_have_the_variance_that_keeps_sizes() {
        let gguf = TinyModel::default().gguf();
        let weights = &gguf.tensors[0].numbers;
        let count = weights.len() as f32;
        let mean = weights.iter().sum::<f32>() / count;
        let variance = weights.iter().map(|weight| weight * weight).sum::<f32>() / count;
        assert!(mean.abs() < 0.002, "{mean}");
        assert!((variance * 128.0 - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn each_byte_has_its_letter() {
        let letters = byte_letters();
        assert_eq!(letters.len(), 256);
        assert_eq!(letters.values().collect::<BTreeSet<_>>().len(), 256);
        assert_eq!((letters[&b' '], letters[&b'\n'], letters[&b'a']), ('Ġ', 'Ċ', 'a'));
    }
}
