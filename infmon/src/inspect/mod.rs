//! `infmon inspect`: what the product sees in a body.
//!
//! A [`source`](Source) gives a body; `body` takes it apart with the same code as a node daemon; `json` and `text` show it. Standard
//! output has the result alone, everything else goes to standard error, and the exit code tells the rest.

mod args;
mod body;
mod failure;
mod families;
mod fields;
mod http;
mod json;
mod mapping;
mod router;
mod second;
mod server;
mod source;
mod text;
mod url;
mod way;

pub use args::Inspect;
pub use failure::USAGE;
pub use source::Source;
pub use url::Url;

use failure::Failure;
use http::Client;
use server::Metrics;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use text::View;
use way::Way;

/// Runs `infmon inspect`.
///
/// # Errors
/// When the result cannot be written. A body that shows nothing is no error here: it is told, and is in the exit code.
pub async fn inspect(args: Inspect) -> anyhow::Result<ExitCode> {
    let view = match view(&args).await {
        Ok(view) => view,
        Err(failure) => {
            note(&failure.to_string());
            return Ok(failure.exit_code());
        }
    };
    if args.json {
        // What a person reads in the text goes beside the JSON.
        if !view.missing.is_empty() {
            note(&format!("{}: missing {}", view.name, view.missing.join(", ")));
        }
        if !view.limits.is_empty() {
            note(&format!("{}: {}", view.name, view.limits));
        }
        view.next.iter().for_each(|next| note(next));
        print(&json::of(&view.sample)?)?;
    } else {
        print(view.text().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn view(args: &Inspect) -> Result<View, Failure> {
    let seconds = [&args.props, &args.slots, &args.loads, &args.mapping];
    let sources = seconds.into_iter().flatten().chain([&args.body]);
    if sources.filter(|source| **source == Source::Stdin).count() > 1 {
        return Err(Failure::Usage("standard input is one body: save the others in files"));
    }
    let credentials = args.access.read(|words| note(&words)).map_err(Failure::Unread)?;
    let client = match (&args.body, credentials) {
        (_, None) => Client::default(),
        (Source::Server(url), Some(credentials)) => Client::of(url, credentials).map_err(Failure::Usage)?,
        (Source::Stdin | Source::File(_), Some(_)) => {
            return Err(Failure::Usage("credentials are shown to a server: give its URL"));
        }
    };
    let way = Way::of(args).await?;
    let (source, body) = match &args.body {
        Source::Server(url) => match server::metrics(&client, url, &way).await.map_err(Failure::Unread)? {
            Metrics::Body(url, body) => (Source::Server(url), body),
            Metrics::Models(url, models) => return router::view(&url.to_string(), models),
        },
        source => (source.clone(), source.read(&client).await?),
    };
    let mut view = body::look(&source.to_string(), &body, &way)?;
    second::add(&mut view, &client, args, &source, &body).await?;
    Ok(view)
}

/// Says something beside the result.
fn note(words: &str) {
    let _ = writeln!(io::stderr(), "infmon: {words}");
}

/// Writes the result. Who reads no further (`| head`) has what was wanted.
fn print(result: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(result).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
