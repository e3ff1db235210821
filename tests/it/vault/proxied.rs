//! A vault under its own name, by way of a proxy: there the challenge is held against the name.

use std::net::SocketAddr;

use easm_export::sim::{Challenge, VAULT_HOST};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Options, World, assert_tokens_are_where_they_belong, assert_whole, command, finish, small,
    world,
};

/// A proxy that leads to `to` whoever asks for [`VAULT_HOST`]. Gives its URL.
async fn proxy(to: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut lines = BufReader::new(&mut client).lines();
                let asked = lines.next_line().await.unwrap().unwrap_or_default();
                while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
                if !asked.starts_with(&format!("CONNECT {VAULT_HOST}:443 ")) {
                    client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
                    return;
                }
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut vault = TcpStream::connect(to).await.unwrap();
                // Either side may end it.
                tokio::io::copy_bidirectional(&mut client, &mut vault).await.unwrap_or_default();
            });
        }
    });
    url
}

#[tokio::test]
async fn a_vault_under_its_own_name_gets_tokens_for_a_challenge_that_is_its_own() {
    let vault_url = format!("https://{VAULT_HOST}");
    for (resource, is_good) in [
        ("https://vault.azure.net", true),
        ("https://management.azure.com", false),
        ("https://vault.azure.net.example", false),
        ("https://azure.net", false),
        ("https://vault.azure.net/a", false),
        ("not a URL", false),
    ] {
        let mut options: Options = small();
        options.vault.challenge = Challenge { authorization: None, resource: resource.to_owned() };
        let world: World = world(options).await;
        let mut command = command(&world, &["export", "--json"]);
        command
            .env("HTTPS_PROXY", proxy(world.sim.vault_addr()).await)
            .env("EASM_KEY_VAULT_URL", &vault_url);
        let done = finish(command).await;
        assert_tokens_are_where_they_belong(&world);
        if is_good {
            assert_eq!(done.code, 0, "{resource}: {}", done.stderr);
            assert_whole(&world, &done, resource);
            continue;
        }
        assert_eq!(done.code, 1, "{resource}: {}", done.stderr);
        let line = done.error_line();
        assert!(line.contains("gets none") && line.contains(VAULT_HOST), "{resource}: {line}");
        let seen = world.sim.requests();
        assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{resource}: no token left");
    }
}
