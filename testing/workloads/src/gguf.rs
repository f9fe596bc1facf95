//! GGUF, the file format of llama.cpp models: metadata, then where each tensor lies, then the tensors.
//!
//! Version 3, little endian, tensors of 32-bit floats: what a tiny model needs, and no more.

use std::io::{self, Write};

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Tensors begin at multiples of this, which is the format's default.
pub const ALIGNMENT: u64 = 32;
/// The format's number for tensors of 32-bit floats.
const F32: u32 = 0;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned number.
    U32(u32),
    /// A fraction.
    F32(f32),
    /// A text.
    Text(String),
    /// A list of numbers.
    Numbers(Vec<i32>),
    /// A list of texts.
    Texts(Vec<String>),
}

/// A tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes; the first is that of the numbers that lie side by side.
    pub sizes: Vec<u64>,
    /// The numbers.
    pub numbers: Vec<f32>,
}

/// A model's file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gguf {
    /// Metadata, in the order in which it is written.
    pub metadata: Vec<(String, Value)>,
    /// Tensors, in the order in which they are written.
    pub tensors: Vec<Tensor>,
}

impl Gguf {
    /// Writes the file. The same model gives the same bytes.
    ///
    /// # Errors
    ///
    /// When writing fails, or a tensor has more or fewer numbers than its sizes say.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        put_length(&mut head, self.tensors.len());
        put_length(&mut head, self.metadata.len());
        for (key, value) in &self.metadata {
            put_text(&mut head, key);
            put_value(&mut head, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            if tensor.sizes.iter().product::<u64>() != tensor.numbers.len() as u64 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "{} has {} numbers, which are not {:?}",
                        tensor.name,
                        tensor.numbers.len(),
                        tensor.sizes
                    ),
                ));
            }
            put_text(&mut head, &tensor.name);
            head.extend_from_slice(&(tensor.sizes.len() as u32).to_le_bytes());
            for size in &tensor.sizes {
                head.extend_from_slice(&size.to_le_bytes());
            }
            head.extend_from_slice(&F32.to_le_bytes());
            head.extend_from_slice(&u64::to_le_bytes(offset));
            offset += aligned(bytes_of(tensor));
        }
        head.resize(aligned(head.len() as u64) as usize, 0);
        out.write_all(&head)?;
        for tensor in &self.tensors {
            let mut bytes: Vec<u8> = tensor.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.resize(aligned(bytes.len() as u64) as usize, 0);
            out.write_all(&bytes)?;
        }
        out.flush()
    }
}

fn bytes_of(tensor: &Tensor) -> u64 {
    tensor.numbers.len() as u64 * 4
}

fn aligned(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// The format's numbers for the kinds of values.
mod kind {
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const TEXT: u32 = 8;
    pub(super) const LIST: u32 = 9;
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let put_kind = |out: &mut Vec<u8>, kind: u32| out.extend_from_slice(&kind.to_le_bytes());
    match value {
        Value::U32(number) => {
            put_kind(out, kind::U32);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::F32(number) => {
            put_kind(out, kind::F32);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Text(text) => {
            put_kind(out, kind::TEXT);
            put_text(out, text);
        }
        Value::Numbers(numbers) => {
            put_kind(out, kind::LIST);
            put_kind(out, kind::I32);
            put_length(out, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::Texts(texts) => {
            put_kind(out, kind::LIST);
            put_kind(out, kind::TEXT);
            put_length(out, texts.len());
            for text in texts {
                put_text(out, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, Gguf, Tensor, Value};

    fn written(model: &Gguf) -> Vec<u8> {
        let mut bytes = Vec::new();
        model.write(&mut bytes).unwrap();
        bytes
    }

    fn tensor(name: &str, numbers: &[f32]) -> Tensor {
        Tensor {
            name: name.into(),
            sizes: vec![numbers.len() as u64],
            numbers: numbers.to_vec(),
        }
    }

    #[test]
    fn a_small_file_byte_for_byte() {
        let model = Gguf {
            metadata: vec![
                ("k".into(), Value::U32(7)),
                ("l".into(), Value::Texts(vec!["é".into()])),
            ],
            tensors: vec![tensor("t", &[1.0, -2.0])],
        };
        let mut expected = Vec::new();
        expected.extend_from_slice(b"GGUF\x03\0\0\0");
        expected.extend_from_slice(b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x01\0\0\0\0\0\0\0k\x04\0\0\0\x07\0\0\0");
        expected.extend_from_slice(b"\x01\0\0\0\0\0\0\0l\x09\0\0\0\x08\0\0\0\x01\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x02\0\0\0\0\0\0\0\xc3\xa9");
        expected.extend_from_slice(b"\x01\0\0\0\0\0\0\0t\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\0\0\0\0\0\0\0\0");
        expected.resize(expected.len().next_multiple_of(32), 0);
        expected.extend_from_slice(b"\0\0\x80\x3f\0\0\0\xc0");
        expected.resize(expected.len().next_multiple_of(32), 0);
        assert_eq!(written(&model), expected);
    }

    #[test]
    fn tensors_begin_at_multiples_of_the_alignment() {
        let numbers: Vec<f32> = (0..9_u8).map(f32::from).collect();
        let model = Gguf {
            metadata: Vec::new(),
            tensors: vec![tensor("first", &numbers), tensor("second", &[42.0])],
        };
        let bytes = written(&model);
        // 9 numbers are 36 bytes, so the second tensor begins 64 bytes after the first; each has a whole unit.
        assert_eq!(bytes.len() as u64 % ALIGNMENT, 0);
        let data = bytes.len() - 64 - 32;
        assert_eq!(data as u64 % ALIGNMENT, 0);
        assert_eq!(bytes[data + 32..data + 36], 8.0_f32.to_le_bytes());
        assert_eq!(bytes[data + 64..data + 68], 42.0_f32.to_le_bytes());
        let name = bytes.windows(6).position(|window| window == b"second").unwrap();
        // After the name: one size (4 + 8 bytes), the kind (4), the offset.
        assert_eq!(bytes[name + 22..name + 30], 64_u64.to_le_bytes());
    }

    #[test]
    fn a_tensor_whose_sizes_do_not_fit_is_refused() {
        let mut model = Gguf {
            metadata: Vec::new(),
            tensors: vec![tensor("t", &[1.0, 2.0])],
        };
        model.tensors[0].sizes = vec![3];
        assert!(
            model
                .write(Vec::new())
                .unwrap_err()
                .to_string()
                .contains("t has 2 numbers")
        );
    }
}
