//! Secrets from files and standard input, so that no command line has them.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use subscriptions::GivenSecrets;

use crate::args::subscriptions::Terms;

/// The text of a file, or of standard input for `-`, without its line breaks at the end.
pub fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?,
        false => {
            text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            text.len()
        }
    };
    match text.trim_end_matches(['\r', '\n']) {
        "" => bail!("{} is empty", file.display()),
        text => Ok(text.to_owned()),
    }
}

/// The secrets that the options give. Only one of the files can be standard input.
pub fn given(terms: &Terms) -> Result<GivenSecrets> {
    let files = [&terms.secret_file, &terms.auth_file, &terms.header_file, &terms.tls_key];
    if files.into_iter().flatten().filter(|file| *file == Path::new("-")).count() > 1 {
        bail!("only one of --secret-file, --auth-file, --header-file and --tls-key can be standard input");
    }
    let of_file = terms.header_file.as_deref().map(read).transpose()?;
    let lines = of_file.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty());
    let mut secrets = GivenSecrets {
        signing: terms.secret_file.as_deref().map(read).transpose()?.or_else(|| terms.secret.clone()),
        auth: terms.auth_file.as_deref().map(read).transpose()?,
        tls_key: terms.tls_key.as_deref().map(read).transpose()?,
        ..GivenSecrets::default()
    };
    for line in terms.header.iter().map(String::as_str).chain(lines) {
        // Without the text, which may be a secret.
        let Some((name, value)) = line.split_once(':') else { bail!("expected a header as 'name: value'") };
        secrets.headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_from_options_and_a_file_and_no_error_quotes_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        std::fs::write(&file, "Authorization: Basic aHVudGVyMg==\n\n").unwrap();
        let terms = Terms {
            header: vec!["X-Api-Key: k:1".to_owned()],
            header_file: Some(file.clone()),
            ..Terms::default()
        };
        let headers = given(&terms).unwrap().headers;
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("authorization", "Basic aHVudGVyMg=="), ("x-api-key", "k:1")]);
        std::fs::write(&file, "hunter2").unwrap();
        let refused = given(&terms).unwrap_err().to_string();
        assert!(refused.contains("name: value") && !refused.contains("hunter2"), "{refused}");
        let both = Terms { secret_file: Some("-".into()), auth_file: Some("-".into()), ..Terms::default() };
        assert!(given(&both).unwrap_err().to_string().starts_with("only one of"));
    }
}
