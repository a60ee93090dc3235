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

/// A part of the password may stand in the place of a host or an option.
const HOSTS: &str = "the URL cannot be used because of a host, a port or the name of an option; the driver's \
                     message is not shown, because it may quote the password (write \
                     mongodb://user:password@host:port/database?option=value, with the `@` before the host as \
                     it is, and with every `:`, `/`, `?`, `#`, `[`, `]`, `@` and `%` of the user and the \
                     password percent-encoded, as %3A, %2F, ...)";

/// Parses a URL. The error says what is wrong, without credentials.
///
/// # Errors
///
/// A text for the operator.
pub fn parse(url: &str) -> Result<ConnectionString, String> {
    let parsed = ConnectionString::parse(url).map_err(|error| explain(&error, url))?;
    match has_encoded_host(&parsed) {
        true => Err(HOSTS.to_owned()),
        false => Ok(parsed),
    }
}

/// Whether a host name is percent-encoded. It is not one then, but credentials whose `@` is encoded as
/// well, and every error of the network would quote it.
fn has_encoded_host(url: &ConnectionString) -> bool {
    // The `%` of an IPv6 address is before the name of a network interface.
    let is_encoded = |host: &str| host.contains('%') && !host.contains(':');
    match &url.host_info {
        HostInfo::HostIdentifiers(hosts) => hosts
            .iter()
            .any(|host| matches!(host, ServerAddress::Tcp { host, .. } if is_encoded(host))),
        HostInfo::DnsRecord(host) => is_encoded(host),
        _ => false,
    }
}

/// Says why a URL cannot be used. The text never quotes the part before the URL's last `@`: it is the
/// error of the same URL with other credentials, if that is wrong as well. Nor does it quote a host or
/// an option that may be a part of the password.
pub(in crate::web) fn explain(error: &Error, url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return unusable(error); // it quotes nothing
    };
    let lower = rest.to_ascii_lowercase();
    if SECRET_OPTIONS.iter().any(|option| lower.contains(option)) {
        return format!(
            "the URL cannot be used ({}); the driver's message is not shown, because options of the \
             URL hold secrets",
            kind(error)
        );
    }
    if ConnectionString::parse(url).is_ok() {
        return unusable(error); // it is about something else
    }
    let (credentials, hosts_and_options) = match rest.rsplit_once('@') {
        Some((_, hosts_and_options)) => ("user:password@", hosts_and_options),
        None => ("", rest),
    };
    if scheme.contains(':') || !may_be_quoted(hosts_and_options) {
        return HOSTS.to_owned();
    }
    match ConnectionString::parse(format!("{scheme}://{credentials}{hosts_and_options}")) {
        Err(error) => unusable(&error),
        Ok(_) => CREDENTIALS.to_owned(),
    }
}

/// Whether the hosts, and the names of the options, are not parts of a password.
fn may_be_quoted(hosts_and_options: &str) -> bool {
    let mut parts = hosts_and_options.split(['/', '?']);
    let hosts = parts.next().unwrap_or_default();
    let options = hosts_and_options.split_once('?');
    let options = options.map_or("", |(_, options)| options);
    let is_host = |host: &str| ServerAddress::parse(host).is_ok();
    let is_named = |option: &str| {
        let name = option.split('=').next().unwrap_or_default();
        name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    };
    hosts.split(',').all(is_host) && options.split('&').all(is_named)
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
    #[case("mongodb://bob:hunter2%40db.example/my_app", "percent-encoded")]
    #[case("mongodb+srv://bob:hunter2%40db.example/my_app", "percent-encoded")]
    #[case("mongodb://bob%3Ahunter2%40db.example/my_app", "percent-encoded")]
    #[case("mongodb://bob:hunter2/my_app", "user:password@host:port")]
    #[case("mongodb+srv://bob:hunter2/my_app", "user:password@host:port")]
    #[case("mongodb://bob:p@ss:hunter2/db", "percent-encoded")]
    #[case("mongodb://bob:p@ss?hunter2%40h/db", "percent-encoded")]
    #[case("mongodb://bob:27017?hunter2%40h/db", "percent-encoded")]
    #[case("mongodb:bob:hunter2://h/db", "user:password@host:port")]
    #[case("mongodb://bob:hunter2@h:port/db", "a port")]
    #[case("mongodb://bob:hunter2@/db", "a host")]
    #[case("bob:hunter2@h/db", "no scheme")]
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
