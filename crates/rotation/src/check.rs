//! What a rotation would do, and what is missing for it.

use secretlink_aws::{Check, Client};
use secretlink_core::Secret;
use secretlink_versions::Issuer;

use crate::admin_session::AdminSession;
use crate::alternate::{alternate_of, base_of, statements};
use crate::run::{Limits, Order, Prepared, Run, prepare};
use crate::statement::literal;
use crate::{Account, Strategy, Surroundings, Trouble};

/// Looks at everything that a rotation needs, and changes nothing: neither the secret nor the server.
pub async fn check(
    aws: Client,
    surroundings: Surroundings,
    limits: Limits,
    issuer: Issuer,
    order: Order,
) -> Vec<Check> {
    let secret = order.secret.clone();
    let mut checks = match prepare(aws.clone(), surroundings, limits, issuer, order).await {
        Ok(Prepared { run, .. }) => run.check().await,
        Err(trouble @ (Trouble::InProgress { .. } | Trouble::Superseded { .. })) => {
            vec![Check::failed("AWSPENDING", &trouble)]
        }
        Err(trouble) => vec![Check::failed("secret", &trouble)],
    };
    // What the identity may do with the secret, as far as that shows without writing.
    let permissions = aws.check(Some(secret.as_str()), true).await;
    checks.extend(permissions.into_iter().filter(|check| check.item == "write"));
    checks
}

impl Run {
    async fn check(mut self: Box<Self>) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Err((item, trouble)) = self.look(&mut checks).await {
            checks.push(Check::failed(item, &trouble));
        }
        checks
    }

    async fn look(&mut self, checks: &mut Vec<Check>) -> Result<(), (&'static str, Trouble)> {
        let version = self.job().from.clone().unwrap_or_default();
        let Some(current) = self.current().cloned() else {
            checks.push(Check::good("secret", format!("AWSCURRENT is version {version}.")));
            checks.push(Check::good("strategy", "managed: RotateSecret would be called."));
            return Ok(());
        };
        let Account { username, host, port, .. } = &current;
        let where_to =
            format!("AWSCURRENT is version {version}, of role \"{username}\" at {host}, port {port}.");
        checks.push(Check::good("secret", where_to));
        checks.push(Check::good("AWSPENDING", "No other rotation is under way."));
        let strategy = self.job().strategy;
        let role = match strategy {
            Strategy::AlternatingUsers => alternate_of(username).map_err(|trouble| ("strategy", trouble))?,
            _ => username.clone(),
        };
        let plan = format!("{}: role \"{role}\" would get a new password.", strategy.as_str());
        checks.push(Check::good("strategy", plan));

        let (connection, password) =
            self.log_in_as_current(&current).await.map_err(|trouble| ("login", trouble))?;
        checks.push(match password == current.password {
            true => Check::good("login", format!("The current password logs in as \"{username}\".")),
            false => Check::unknown("login", "Only the previous password logs in: it would be used."),
        });
        if strategy != Strategy::AlternatingUsers {
            let session =
                AdminSession::begin(connection, username).await.map_err(|trouble| ("server", trouble))?;
            checks.push(Check::good("server", version_of(&session)));
            checks.push(Check::good("ALTER ROLE", "A role may change its own password."));
            session.close().await;
            return Ok(());
        }
        let master = self.master(&current, connection).await.map_err(|trouble| ("master", trouble))?;
        let name = master.facts().user.clone();
        checks.push(Check::good("master", format!("Role \"{name}\" logs in.")));
        let begun = AdminSession::begin(master, base_of(username)).await;
        let mut session = begun.map_err(|trouble| ("server", trouble))?;
        checks.push(Check::good("server", version_of(&session)));
        let looked = async {
            statements(&mut session, username, &role, &Secret::new("")).await.map_err(|t| ("clone", t))?;
            let exists = format!("SELECT count(*) FROM pg_roles WHERE rolname = {}", literal(&role));
            let exists = session.value("look at the roles", &exists).await.map_err(|t| ("clone", t))?;
            let found = match exists.as_deref() {
                Some("0") => format!("Role \"{role}\" would be made."),
                _ => format!("Role \"{role}\" is there."),
            };
            checks.push(Check::good("clone", found));
            let right = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = session_user";
            let right = session.value("look at the roles", right).await.map_err(|t| ("ALTER ROLE", t))?;
            checks.push(match right.as_deref() {
                Some("t") => Check::good("ALTER ROLE", format!("Role \"{name}\" may alter roles.")),
                _ => Check::bad(
                    "ALTER ROLE",
                    format!("Role \"{name}\" may not alter other roles."),
                    "Give it CREATEROLE and, from PostgreSQL 16 on, ADMIN OPTION on both roles.",
                ),
            });
            Ok(())
        }
        .await;
        session.close().await;
        looked
    }
}

fn version_of(session: &AdminSession) -> String {
    format!("It is a primary of version {}.", session.version / 10_000)
}
