//! Bodies that nobody sends: real ones with changes.

use crate::bodies::{VLLM, VLLM_DP2, later};

/// What is put into bodies: what decides something in the format, and spellings of every kind.
const PIECES: [&[u8]; 44] = [
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b"{",
    b"}",
    b"{}",
    b",",
    b"=",
    b"\"",
    b"\\",
    b"\\n",
    b"\\\\",
    b"\\\"",
    b"#",
    b"# ",
    b"# EOF\n",
    b"# TYPE a counter\n",
    b"# HELP a b\n",
    b"NaN",
    b"Nan",
    b"+Inf",
    b"-Inf",
    b"1e+06",
    b"0x1p-2",
    b"1_0",
    b".5",
    b"5.",
    b" 1700000000000",
    b" 1.5",
    b" # {a=\"b\"} 1 1.5",
    b"le=\"1\"",
    b"le=\"0.00015000000000000001\",",
    b"quantile=\"0.5\"",
    b"\"a.b\"=\"c\"",
    b"{\"a b\",c=\"d\"} 1\n",
    b"a{b=\"\xc3\xa9\"} 1\n",
    b"\xff",
    b"\xe2\x82\xac",
    b"_",
    b":",
    b"9",
    b"infinity",
];

/// An endless row of bodies, the same for the same seed.
#[derive(Debug)]
pub struct Changes {
    random: u64,
    bodies: Vec<String>,
}

impl Changes {
    /// Bodies made of the recorded ones, of their first lines, and of small ones.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let start = |body: &str, lines| body.split_inclusive('\n').take(lines).collect::<String>();
        let around = |body: &str, word: &str| {
            let lines: Vec<&str> = body.split_inclusive('\n').collect();
            let at = lines.iter().position(|line| line.contains(word)).unwrap_or_default();
            lines.into_iter().skip(at).take(40).collect::<String>()
        };
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            bodies: vec![
                VLLM.to_owned(),
                start(VLLM_DP2, 60),
                around(VLLM, "e2e_request_latency_seconds_bucket"),
                around(VLLM, "cache_config_info"),
                around(VLLM, "num_requests_running"),
                "up 1\n".to_owned(),
                "a{b=\"c\",le=\"1\"} 1\na{b=\"c\",le=\"2\"} 2\na_sum{b=\"c\"} 3\n# EOF\n".to_owned(),
                "# TYPE a histogram\na_bucket{le=\"1\",b=\"\\\\\\\"\\n\"} 1 1700000000000\n".to_owned(),
            ],
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 16).unwrap_or_default() % end.max(1)
    }

    /// The next body.
    pub fn next_body(&mut self) -> Vec<u8> {
        let which = self.below(self.bodies.len());
        // A large body costs as much as many small ones.
        let which = if which == 0 && self.below(8) > 0 { 2 } else { which };
        let mut body = self.bodies.get(which).cloned().unwrap_or_default();
        if self.below(2) == 0 {
            let round = self.below(1000) as u64;
            body = later(&body, round);
        }
        let mut body = body.into_bytes();
        for _ in 0..self.below(5) {
            self.change(&mut body);
        }
        body
    }

    fn change(&mut self, body: &mut Vec<u8>) {
        let at = self.below(body.len() + 1);
        let piece = PIECES[self.below(PIECES.len())];
        match self.below(8) {
            0 => body.truncate(at),
            1 if at < body.len() => {
                body.remove(at);
            }
            2 if at < body.len() => body[at] = u8::try_from(self.below(256)).unwrap_or_default(),
            3 => {
                // A piece of the body itself, elsewhere.
                let from = self.below(body.len() + 1);
                let to = (from + self.below(200)).min(body.len());
                let copy = body[from..to].to_vec();
                body.splice(at..at, copy);
            }
            4 => {
                let end = (at + piece.len()).min(body.len());
                body.splice(at..end, piece.iter().copied());
            }
            _ => {
                // Where lines and words begin more happens than inside of them.
                let word = |&(_, byte): &(usize, &u8)| matches!(byte, b'\n' | b' ' | b'{' | b',' | b'}' | b'"' | b'=');
                let near = body
                    .iter()
                    .enumerate()
                    .skip(at)
                    .find(word)
                    .map_or(at, |(found, _)| found);
                let near = (near + self.below(2)).min(body.len());
                body.splice(near..near, piece.iter().copied());
            }
        }
    }
}
