//! Prints how long bodies take here and with the parsers of others: `cargo run --release -p infmon-parser-peers [SECONDS]`.

use std::env;

fn main() -> anyhow::Result<()> {
    let seconds = env::args().nth(1).map_or(Ok(3.0), |seconds| seconds.parse())?;
    print!("{}", infmon_parser_peers::figures::table(seconds)?);
    Ok(())
}
