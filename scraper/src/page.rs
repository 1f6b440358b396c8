//! `/targets`: what this scraper scrapes, as a page without scripts.

use std::fmt::Write as _;

use promring_proto::api::{ActiveTarget, Health};

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Targets</title><style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: left; vertical-align: top }
.up { color: #18794e } .down { color: #c62a2f } code { font-size: 12px }
</style></head><body>
";

/// The page for these targets, sorted by pool and URL.
pub(crate) fn targets(scraper: &str, targets: &[ActiveTarget]) -> String {
    let mut page = HEAD.to_owned();
    let up = targets.iter().filter(|target| target.health == Health::Up).count();
    let _ = write!(page, "<h1>Targets of {}</h1><p>{up} of {} up</p>", escaped(scraper), targets.len());
    let mut pool = None;
    for target in targets {
        if pool != Some(&target.scrape_pool) {
            if pool.is_some() {
                page.push_str("</table>");
            }
            pool = Some(&target.scrape_pool);
            let _ = write!(
                page,
                "<h2>{}</h2><table><tr><th>Endpoint<th>State<th>Labels<th>Last scrape<th>Duration<th>Samples<th>Error",
                escaped(&target.scrape_pool)
            );
        }
        let state = match target.health {
            Health::Up => "up",
            Health::Down => "down",
            Health::Unknown => "unknown",
        };
        let url = escaped(&target.scrape_url);
        let _ = write!(
            page,
            "\n<tr><td><a href=\"{url}\">{url}</a><td class=\"{state}\">{state}<td><code>{}</code><td>{}<td>{:.3}s<td>{}<td>{}",
            escaped(&target.labels.to_string()),
            escaped(&target.last_scrape),
            target.last_scrape_duration,
            target.samples,
            escaped(&target.last_error)
        );
    }
    page.push_str(if pool.is_some() { "</table></body></html>\n" } else { "</body></html>\n" });
    page
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
