//! People of a test: how they register, sign in, and are known.

use serde_json::{Value, json};

use super::{Answer, Server};

/// Of everybody.
pub const PASSWORD: &str = "correct horse";

/// What somebody registers with.
pub fn registration(name: &str) -> Value {
    json!({
        "email": format!("{name}@example.com"),
        "user_name": name,
        "display_name": format!("The one called {name}"),
        "password": PASSWORD,
    })
}

/// The pair that signing in and renewing give.
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}

impl Tokens {
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.field("cache-control"), "no-store");
        let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

impl Server {
    pub async fn register(&self, name: &str) {
        let answer = self.json("POST", "/api/v1/auth/register", "", &registration(name)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    pub async fn login(&self, login: &str, password: &str) -> Answer {
        self.json("POST", "/api/v1/auth/login", "", &json!({ "login": login, "password": password })).await
    }

    /// Registers and signs in.
    pub async fn signed_in(&self, name: &str) -> Tokens {
        self.register(name).await;
        Tokens::of(&self.login(name, PASSWORD).await)
    }

    /// Adds an item; what the answer says.
    pub async fn add_media(&self, token: &str, title: &str) -> Value {
        let body = json!({ "title": title, "content_type": "image/jpeg" });
        let answer = self.json("POST", "/api/v1/media", token, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// Makes a playlist; its path.
    pub async fn add_playlist(&self, token: &str, name: &str, is_public: bool) -> String {
        let body = json!({ "name": name, "is_public": is_public });
        let answer = self.json("POST", "/api/v1/playlists", token, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.field("location").to_owned()
    }

    /// Waits until nothing is left to derive of an item; how it is then.
    pub async fn settled(&self, path: &str) -> Value {
        for _ in 0..1000 {
            let media = self.get(path).await.json();
            if media["is_settled"] == true {
                return media;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{path} is not settled within 10 s");
    }
}
