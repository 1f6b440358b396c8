//! What unit tests of this crate share: a configuration made from a piece of YAML.

use std::path::{Path, PathBuf};

use promring_model::config::{Config, ConfigSource, load};

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// The configuration in this file.
pub(crate) fn config_in(text: &str) -> Config {
    let loaded = load(Path::new("test.yml"), &Text(text.to_owned()));
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}
