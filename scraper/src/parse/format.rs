//! Which format a body is in: what its Content-Type says, or the configured fallback.

use promring_model::config::ScrapeProtocol;

/// A format that a body may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The Prometheus text format, of any version.
    Text,
    /// OpenMetrics as text, 0.0.1 or 1.0.0.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily` messages, each after its length.
    Protobuf,
}

impl From<ScrapeProtocol> for Format {
    fn from(protocol: ScrapeProtocol) -> Self {
        match protocol {
            ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Self::Text,
            ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => Self::OpenMetrics,
            ScrapeProtocol::PrometheusProto => Self::Protobuf,
        }
    }
}

/// What client libraries say, letter by letter: it need not be taken apart at each scrape.
const USUAL: [(&str, Format); 7] = [
    ("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", Format::Text),
    ("text/plain; version=0.0.4; charset=utf-8; escaping=values", Format::Text),
    ("text/plain; version=0.0.4; charset=utf-8", Format::Text),
    ("text/plain; version=0.0.4", Format::Text),
    ("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores", Format::OpenMetrics),
    ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
    (
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
        Format::Protobuf,
    ),
];

/// Why no format is known for a body: the scrape fails. The texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedContentType {
    /// There is none.
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )]
    Blank,
    /// It is no media type.
    #[error("cannot parse Content-Type {0:?} and no fallback_scrape_protocol for target")]
    Malformed(String),
    /// It is another media type.
    #[error("received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    Unsupported(String),
    /// It is OpenMetrics 2.0.
    #[error(
        "received OpenMetrics 2.0 Content-Type {0:?}, which is not supported, and no fallback_scrape_protocol specified for target"
    )]
    OpenMetrics2(String),
}

impl Format {
    /// The format that `content_type` names. Parameters must be well-formed and are otherwise ignored, all but
    /// OpenMetrics' version 2.0.0, as in Prometheus.
    ///
    /// # Errors
    /// Where it names none and there is no fallback.
    pub fn choose(content_type: &str, fallback: Option<Self>) -> Result<Self, UnsupportedContentType> {
        Self::named_by(content_type).or_else(|error| fallback.ok_or(error))
    }

    fn named_by(content_type: &str) -> Result<Self, UnsupportedContentType> {
        if content_type.is_empty() {
            return Err(UnsupportedContentType::Blank);
        }
        if let Some((_, format)) = USUAL.iter().find(|(usual, _)| *usual == content_type) {
            return Ok(*format);
        }
        let (media_type, version) = parse_media_type(content_type)
            .ok_or_else(|| UnsupportedContentType::Malformed(content_type.to_owned()))?;
        match media_type.as_str() {
            "application/openmetrics-text" if version.as_deref() == Some("2.0.0") => {
                Err(UnsupportedContentType::OpenMetrics2(content_type.to_owned()))
            }
            "application/openmetrics-text" => Ok(Self::OpenMetrics),
            "application/vnd.google.protobuf" => Ok(Self::Protobuf),
            "text/plain" => Ok(Self::Text),
            _ => Err(UnsupportedContentType::Unsupported(content_type.to_owned())),
        }
    }
}

/// The media type in lower case and its `version`, as Go's `mime.ParseMediaType` reads them; None where it would not.
fn parse_media_type(text: &str) -> Option<(String, Option<String>)> {
    let (media_type, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
    let media_type = media_type.trim().to_ascii_lowercase();
    let (kind, subtype) = match media_type.split_once('/') {
        Some((kind, subtype)) => (kind, Some(subtype)),
        None => (media_type.as_str(), None),
    };
    if !is_token(kind) || subtype.is_some_and(|subtype| !is_token(subtype)) {
        return None;
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start();
        // A semicolon with nothing after it is let pass.
        if rest.is_empty() || rest.trim_end() == ";" {
            break;
        }
        let name_and_rest = rest.strip_prefix(';')?.trim_start();
        let (name, after) = name_and_rest.split_at(name_and_rest.find(|c| !is_token_char(c))?);
        if name.is_empty() {
            return None;
        }
        let (value, after) = parameter_value(after.trim_start().strip_prefix('=')?.trim_start())?;
        let name = name.to_ascii_lowercase();
        match parameters.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value => return None,
            Some(_) => {}
            None => parameters.push((name, value)),
        }
        rest = after;
    }
    let version = parameters.into_iter().find(|(name, _)| name == "version");
    Some((media_type, version.map(|(_, version)| version)))
}

/// A token or a quoted text, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(|c| !is_token_char(c)).unwrap_or(text.len()));
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\r' | '\n' => return None,
            // A backslash before anything but a special character is itself: paths from some browsers.
            '\\' if chars.peek().is_some_and(|&(_, next)| TOKEN_SPECIALS.contains(next)) => {
                value.extend(chars.next().map(|(_, next)| next));
            }
            _ => value.push(c),
        }
    }
    None
}

/// RFC 2045: what is visible and yet no part of a token.
const TOKEN_SPECIALS: &str = "()<>@,;:\\\"/[]?=";

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_graphic() && !TOKEN_SPECIALS.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(content_type: &str) -> Option<Format> {
        Format::choose(content_type, None).ok()
    }

    #[test]
    fn each_format_is_known_by_its_media_type() {
        for (content_type, format) in [
            ("text/plain", Format::Text),
            ("text/plain; version=0.0.4; charset=utf-8", Format::Text),
            ("text/plain;version=1.0.0;escaping=allow-utf-8", Format::Text),
            ("TEXT/Plain ; Version=\"9\"", Format::Text),
            ("application/openmetrics-text; version=0.0.1; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=1.0.0", Format::OpenMetrics),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                Format::Protobuf,
            ),
        ] {
            assert_eq!(chosen(content_type), Some(format), "{content_type}");
        }
    }

    #[test]
    fn what_is_usual_is_known_for_what_it_says() {
        for (content_type, format) in USUAL {
            // Not letter by letter, so it is taken apart.
            assert_eq!(chosen(&format!("{content_type};")), Some(format), "{content_type}");
            assert_eq!(chosen(content_type), Some(format), "{content_type}");
        }
    }

    #[test]
    fn the_charset_and_unknown_parameters_are_ignored() {
        for parameters in ["; charset=latin-1", ";x=y;z=\"a;b\\\"\"", ";", " ; ", ";version=3", ";x=1;x=1"] {
            assert_eq!(chosen(&format!("text/plain{parameters}")), Some(Format::Text), "{parameters}");
        }
    }

    #[test]
    fn a_blank_content_type_fails_without_a_fallback() {
        let error = Format::choose("", None).unwrap_err();
        assert_eq!(error, UnsupportedContentType::Blank);
        assert!(error.to_string().starts_with("non-compliant scrape target sending blank Content-Type"));
        assert_eq!(Format::choose("", Some(Format::Text)), Ok(Format::Text));
    }

    #[test]
    fn an_unsupported_content_type_fails_without_a_fallback() {
        for content_type in
            ["text/html; charset=utf-8", "application/json", "text", "application/octet-stream"]
        {
            let error = Format::choose(content_type, None).unwrap_err();
            assert_eq!(error, UnsupportedContentType::Unsupported(content_type.to_owned()));
            assert_eq!(Format::choose(content_type, Some(Format::Protobuf)), Ok(Format::Protobuf));
        }
    }

    #[test]
    fn a_malformed_content_type_fails_without_a_fallback() {
        for content_type in [
            " ",
            ";",
            "/",
            "text/",
            "/plain",
            "text/plain/x",
            "text plain",
            "text/plain version=1",
            "text/plain;version",
            "text/plain;version=",
            "text/plain;=1",
            "text/plain;version=\"1",
            "text/plain;x=1;x=2",
            "text/plain;;",
        ] {
            let error = Format::choose(content_type, None).unwrap_err();
            assert_eq!(error, UnsupportedContentType::Malformed(content_type.to_owned()));
            assert_eq!(Format::choose(content_type, Some(Format::Text)), Ok(Format::Text));
        }
    }

    #[test]
    fn openmetrics_2_is_not_supported() {
        let content_type = "application/openmetrics-text; version=2.0.0";
        let error = Format::choose(content_type, None).unwrap_err();
        assert_eq!(error, UnsupportedContentType::OpenMetrics2(content_type.to_owned()));
        assert_eq!(Format::choose(content_type, Some(Format::OpenMetrics)), Ok(Format::OpenMetrics));
    }

    #[test]
    fn a_fallback_is_not_asked_where_the_content_type_is_good() {
        assert_eq!(Format::choose("text/plain", Some(Format::Protobuf)), Ok(Format::Text));
    }
}
