//! The database's URL: parsed without asking the network, and errors that show no credentials.

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ConnectionString, HostInfo, ServerAddress, Tls};
use rocket::tokio;

/// Options whose values are secret, in lower case.
const SECRET_OPTIONS: [&str; 3] = [
    "authmechanismproperties",
    "tlscertificatekeyfilepassword",
    "proxypassword",
];

const CREDENTIALS: &str = "the URL cannot be used because of its user or password; the driver's message is not \
                           shown, because the URL holds credentials (check that every `:`, `/`, `?`, `#`, \
                           `[`, `]`, `@` and `%` of the user and the password is percent-encoded, as %3A, \
                           %2F, ...)";

/// Parses a URL. The error says what is wrong, without credentials.
pub(in crate::web) fn parse(url: &str) -> Result<ConnectionString, String> {
    ConnectionString::parse(url).map_err(|error| explain(&error, url))
}

/// Says why a URL cannot be used. The text never quotes the part before the URL's last `@`: it is the
/// error of the same URL with other credentials, if that is wrong as well.
pub(in crate::web) fn explain(error: &Error, url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let lower = rest.to_ascii_lowercase();
    if SECRET_OPTIONS.iter().any(|option| lower.contains(option)) {
        return format!(
            "the URL cannot be used ({}); the driver's message is not shown, because options of the \
             URL hold secrets",
            kind(error)
        );
    }
    let Some((_, hosts_and_options)) = rest.rsplit_once('@') else {
        return unusable(error);
    };
    match ConnectionString::parse(format!("{scheme}://user:password@{hosts_and_options}")) {
        Err(error) => unusable(&error),
        // The URL could be parsed, so the error is about something else.
        Ok(_) if ConnectionString::parse(url).is_ok() => unusable(error),
        Ok(_) => CREDENTIALS.to_owned(),
    }
}

fn unusable(error: &Error) -> String {
    let message = match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } if message.starts_with("compressors ") => {
            "`compressors` needs a feature of the crate `mongodb`: `zstd-compression`, \
             `zlib-compression` or `snappy-compression`"
        }
        ErrorKind::InvalidArgument { message, .. }
        | ErrorKind::DnsResolve { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. } => message,
        _ => return format!("the URL cannot be used: {error}"),
    };
    format!("the URL cannot be used: {message}")
}

fn kind(error: &Error) -> &'static str {
    match &*error.kind {
        ErrorKind::DnsResolve { .. } => "its host name cannot be resolved",
        ErrorKind::InvalidTlsConfig { .. } => "its TLS options are invalid",
        _ => "a part of it is invalid",
    }
}

/// Whether the host name of a `mongodb+srv://` URL could not be resolved, which may pass.
pub(in crate::web) fn is_unresolved(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::DnsResolve { .. })
}

/// Checks that the files which the URL names can be read.
pub(in crate::web) async fn missing_file(url: &ConnectionString) -> Option<String> {
    let Some(Tls::Enabled(tls)) = &url.tls else {
        return None;
    };
    for (option, path) in [
        ("tlsCAFile", &tls.ca_file_path),
        ("tlsCertificateKeyFile", &tls.cert_key_file_path),
    ] {
        let Some(path) = path else { continue };
        if let Err(error) = tokio::fs::File::open(path).await {
            return Some(format!(
                "its option `{option}` names the file {path:?}, which cannot be read: {error}"
            ));
        }
    }
    None
}

/// Whether a host of the URL may be another machine.
fn is_remote(url: &ConnectionString) -> bool {
    let HostInfo::HostIdentifiers(hosts) = &url.host_info else {
        return true;
    };
    hosts.iter().any(|host| match host {
        ServerAddress::Tcp { host, .. } => {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    })
}

/// Whether writes may be sent again after a lost reply.
pub(in crate::web) fn has_retryable_writes(url: &ConnectionString) -> bool {
    url.retry_writes != Some(false)
}

/// Returns a warning for each option of the URL that exposes the database or weakens writes.
pub(in crate::web) fn warnings(url: &ConnectionString) -> Vec<String> {
    let is_remote = is_remote(url);
    let is_unchecked = matches!(&url.tls, Some(Tls::Enabled(tls))
        if tls.allow_invalid_certificates == Some(true));
    let is_plain = !matches!(url.tls, Some(Tls::Enabled(_)));
    let warnings = [
        (
            is_remote && is_plain,
            "the database is on another machine, without TLS; add tls=true",
        ),
        (
            is_unchecked,
            "the database's certificate is not checked (`tlsInsecure`, \
             `tlsAllowInvalidCertificates`), so anybody on the network can pose as the database; name \
             its certificate authority in `tlsCAFile`",
        ),
        (
            is_remote && url.credential.is_none(),
            "the database is on another machine, without credentials; add a user to the URL",
        ),
        (
            !has_retryable_writes(url),
            "`retryWrites=false` in the database's URL: a write during an election or on a lost \
             connection is not repeated, and its request is answered with 503. MongoDB does not need \
             the option: remove it there. Keep it for a service that asks for it (Amazon DocumentDB, \
             Azure Cosmos DB)",
        ),
    ];
    let warnings = warnings.into_iter().filter(|(applies, _)| *applies);
    warnings.map(|(_, warning)| warning.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mongodb://bob:hunter2@h/db?compressors=lz4", "compress")]
    #[case("mongodb://bob:hunter2@h/db?maxPoolSize=many", "maxpoolsize")]
    #[case("mongodb://bob:hunter2@h/db?tls", "tls")]
    #[case("mongodb://h/db?maxPoolSize=many", "maxpoolsize")]
    #[case("mongodb://bob:hun@ter2@h/db", "percent-encoded")]
    #[case("mongodb://bob:hun/ter2@h/db", "percent-encoded")]
    #[case("mongodb://bob:hunt?er=2@h/db", "percent-encoded")]
    #[case(
        "mongodb://bob:hunter2@h/db?authMechanismProperties=hunter2",
        "hold secrets"
    )]
    fn an_error_names_the_option_and_never_the_credentials(#[case] url: &str, #[case] named: &str) {
        let said = parse(url).unwrap_err();
        assert!(
            said.to_lowercase().contains(&named.to_lowercase()),
            "{url}: {said}"
        );
        for part in ["hunter2", "hunt", "er2", "bob:"] {
            assert!(!said.contains(part), "{url}: {said}");
        }
    }

    #[test]
    fn a_password_is_not_blamed_for_other_errors() {
        for url in [
            "mongodb://bob:hunter2@h/db?w=majority&compressors=lz4",
            "mongodb://bob:hunter2@h/db?tls=maybe",
        ] {
            let said = parse(url).unwrap_err();
            assert!(!said.contains("password"), "{url}: {said}");
        }
    }

    #[rocket::async_test]
    async fn a_missing_file_is_named_with_its_option() {
        for option in ["tlsCAFile", "tlsCertificateKeyFile"] {
            let url = format!("mongodb://bob:hunter2@h/db?tls=true&{option}=/nowhere/a.pem");
            let url = parse(&url).unwrap();
            let said = missing_file(&url).await.expect("it is missing");
            assert!(said.contains(option), "{said}");
            assert!(said.contains("/nowhere/a.pem"), "{said}");
        }
    }
}
