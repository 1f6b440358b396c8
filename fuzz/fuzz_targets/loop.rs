//! Any bytes as the answer to a scrape: read and parsed in pieces, wherever it is cut, it gives what it gives as a whole.
#![no_main]

use std::cell::OnceCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use promring_fuzz::shown;
use promring_scraper::parse::protobuf::HistogramOptions;
use promring_scraper::parse::{Format, Found, ParseError, Parser, PieceParser};
use promring_scraper::scrape::cores::Cores;
use promring_scraper::scrape::download::Body;
use promring_scraper::scrape::replay;
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Less than what may be carried from piece to piece, so that this bound makes no difference.
const BODY_BYTES_MAX: u64 = 256 << 10;

/// Nothing waits here.
const TIMEOUT: Duration = Duration::from_secs(60);

fuzz_target!(|input: &[u8]| {
    // How it is cut, how it is read, and the answer.
    let Some((&[cut, step, mode], answer)) = input.split_first_chunk() else { return };
    let options = HistogramOptions {
        native: mode & 1 != 0,
        always_classic: mode & 2 != 0,
        convert_classic: mode & 4 != 0,
    };
    RUNTIME.with(|cell| {
        let runtime = cell.get_or_init(|| {
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
        });
        runtime.block_on(async {
            let cores = Cores::default();
            let pieces = answer.chunks(usize::from(cut) + 1).map(<[u8]>::to_vec);
            let whole = match replay::answer(
                [answer.to_vec()].into_iter().filter(|a| !a.is_empty()),
                BODY_BYTES_MAX,
                TIMEOUT,
            )
            .await
            {
                Ok(body) => read_whole(body, options, &cores).await,
                Err(error) => Err(error.to_string()),
            };
            let cut = match replay::answer(pieces, BODY_BYTES_MAX, TIMEOUT).await {
                Ok(body) => read_pieces(body, options, usize::from(step) + 1, &cores).await,
                Err(error) => Err(error.to_string()),
            };
            match (whole, cut) {
                (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
                // Which mistake is met first depends on how far was read.
                (Err(_), Err(_)) => {}
                (whole, cut) => panic!("as a whole {whole:?}, in pieces {cut:?}"),
            }
        });
    });
});

async fn read_whole(mut body: Body, options: HistogramOptions, cores: &Cores) -> Result<Vec<String>, String> {
    body.fill(usize::MAX, cores).await.map_err(|error| error.to_string())?;
    let parser = Parser::new(&body.content_type, Some(Format::Text), options, body.bytes());
    let mut parser = parser.map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
        out.push(shown(&item));
    }
    Ok(out)
}

async fn read_pieces(
    mut body: Body,
    options: HistogramOptions,
    step: usize,
    cores: &Cores,
) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut last = body.fill(step, cores).await.map_err(|error| error.to_string())?;
    if last && body.bytes().is_empty() {
        return Ok(out);
    }
    let format = Format::choose(&body.content_type, Some(Format::Text)).map_err(|error| error.to_string())?;
    let mut parser = PieceParser::new(format, options);
    loop {
        let used = parser.read(body.bytes(), last, |found| {
            let Found::Item(item) = found else { unreachable!("nothing is expected") };
            out.push(shown(&item));
            Ok::<_, ParseError>(None)
        });
        body.consume(used.map_err(|error| error.to_string())?);
        if last {
            return Ok(out);
        }
        last = body.fill(body.bytes().len() + step, cores).await.map_err(|error| error.to_string())?;
    }
}
