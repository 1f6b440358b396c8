//! What a file with very many mistakes costs: little more than its size, as only some of them are shown.

use std::path::{Path, PathBuf};

use allocation_counter::measure;
use promring_model::config::{ConfigSource, Loaded, load};

/// One file, whatever its name.
struct One(String);

impl ConfigSource for One {
    fn read(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// How many mistakes of a file are not shown, and the most bytes that reading it took at a time.
fn cost(text: String) -> (usize, u64) {
    let source = One(text);
    let mut left_out = 0;
    let memory = measure(|| {
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &source);
        assert!(config.is_none());
        let last = &diagnostics.last().expect("mistakes").message;
        left_out = last.split(' ').find_map(|word| word.parse().ok()).expect("more than are shown");
    });
    (left_out, memory.bytes_max)
}

#[test]
fn mistakes_that_aliases_multiply_are_counted_and_not_kept() {
    let rules = "{a: }, ".repeat(1_000);
    let first = format!("- {{job_name: j, relabel_configs: &r [{rules}]}}\n");
    let more = "- {job_name: j, relabel_configs: *r}\n".repeat(900);
    let (left_out, bytes) = cost(format!("scrape_configs:\n{first}{more}"));
    assert!(left_out > 200_000 && bytes < 10 << 20, "{left_out} mistakes, {bytes} bytes");
}

#[test]
fn many_jobs_with_a_mistake_each_are_counted_and_not_kept() {
    let jobs = "- {job_name: x, bogus: 1}\n".repeat(100_000);
    let size = jobs.len() as u64;
    let (left_out, bytes) = cost(format!("scrape_configs:\n{jobs}"));
    assert!(left_out >= 99_800 && bytes < 30 * size, "{left_out} mistakes, {bytes} bytes");
}
