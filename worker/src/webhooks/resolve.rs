//! Names become addresses here, for the call itself: what was looked at is what is connected to.

use std::{io, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use stampede_shared::domain::webhook::is_public;

/// Gives only public addresses, unless others are allowed.
#[derive(Debug, Clone, Copy)]
pub struct Resolver {
    pub allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = allowed(found, allow_private)?;
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

fn allowed(
    found: impl Iterator<Item = SocketAddr>,
    allow_private: bool,
) -> io::Result<Vec<SocketAddr>> {
    let allowed: Vec<SocketAddr> = found
        .filter(|address| allow_private || is_public(address.ip()))
        .collect();
    if allowed.is_empty() {
        let detail = "the name leads to no public address";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, detail));
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_with_public_and_private_addresses_leads_to_the_public_ones() {
        let found = addresses(&["127.0.0.1:0", "1.1.1.1:0", "[::1]:0"]);
        let public = allowed(found.clone().into_iter(), false).unwrap();
        assert_eq!(public, addresses(&["1.1.1.1:0"]));
        assert_eq!(allowed(found.clone().into_iter(), true).unwrap(), found);
    }

    #[tokio::test]
    async fn the_name_of_this_machine_leads_nowhere_unless_it_may() {
        let resolve = async |allow_private| {
            let name = "localhost".parse().unwrap();
            Resolver { allow_private }.resolve(name).await.is_ok()
        };
        assert!(!resolve(false).await);
        assert!(resolve(true).await);
    }

    #[test]
    fn a_name_with_private_addresses_only_leads_nowhere() {
        let found = addresses(&["169.254.169.254:0", "10.0.0.1:0"]);
        assert!(allowed(found.into_iter(), false).is_err());
    }
}
