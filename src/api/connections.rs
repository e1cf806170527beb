//! `connect_with_secret` and `connect_with_iam`, and what is called when a failure is to be looked at.

use pgrx::prelude::*;
use secretlink_core::Report;

use super::error::ArgumentError;
use super::{optional, options_with, port_number, required};
use crate::backend::process::report::OrRaise;
use crate::backend::text::{ServerText, Text};
use crate::connect::destination::Destination;
use crate::connections;
use crate::error::Error;
use crate::session::name::ConnectionName;

/// A connection name has room for NAMEDATALEN - 1 bytes; contrib dblink cuts a longer one silently
/// when it is looked up, which a new function need not repeat.
const MAX_NAME: usize = pg_sys::NAMEDATALEN as usize - 1;

/// Opens a connection with the password, and whatever else is not given, from a secret.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::too_many_arguments)] // the SQL signature is a contract
fn connect_with_secret(
    secret_name: Option<Text>,
    remote_host: default!(Option<Text>, "NULL"),
    remote_db: default!(Option<Text>, "NULL"),
    remote_user: default!(Option<Text>, "NULL"),
    remote_port: default!(Option<i32>, "NULL"),
    connection_name: default!(Option<ServerText>, "'remote_conn'"),
    options: default!(Option<Text>, "NULL"),
    fail: default!(Option<bool>, true),
) -> Text {
    let request =
        Arguments { secret_name, remote_host, remote_db, remote_user, remote_port, connection_name, options };
    told(request.connect(), fail)
}

/// Opens a connection as `connect_with_secret` does, and returns a failure as columns instead of raising it:
/// one row, whose `connected` says which it was.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)] // those of connect_with_secret; the columns
fn try_connect_with_secret(
    secret_name: Option<Text>,
    remote_host: default!(Option<Text>, "NULL"),
    remote_db: default!(Option<Text>, "NULL"),
    remote_user: default!(Option<Text>, "NULL"),
    remote_port: default!(Option<i32>, "NULL"),
    connection_name: default!(Option<ServerText>, "'remote_conn'"),
    options: default!(Option<Text>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(connected, bool),
        name!(sqlstate, Option<String>),
        name!(message, Option<Text>),
        name!(detail, Option<Text>),
        name!(hint, Option<Text>),
    ),
> {
    let request =
        Arguments { secret_name, remote_host, remote_db, remote_user, remote_port, connection_name, options };
    TableIterator::once(match request.connect() {
        Ok(()) => (true, None, None, None, None),
        Err(error) => (
            false,
            Some(error.sqlstate().to_string()),
            Some(Text(error.to_string())),
            error.detail().map(Text),
            error.hint().map(Text),
        ),
    })
}

struct Arguments {
    secret_name: Option<Text>,
    remote_host: Option<Text>,
    remote_db: Option<Text>,
    remote_user: Option<Text>,
    remote_port: Option<i32>,
    connection_name: Option<ServerText>,
    options: Option<Text>,
}

impl Arguments {
    fn connect(self) -> Result<(), Error> {
        // Whatever can be wrong with the arguments comes first: no secret is fetched in vain.
        let secret_name = required(self.secret_name, "secret_name")?;
        let name = connection_name(self.connection_name)?;
        let port = self.remote_port.map(port_number).transpose()?;
        let given = [
            ("host", "remote_host", self.remote_host.map(|t| t.0)),
            ("dbname", "remote_db", self.remote_db.map(|t| t.0)),
            ("user", "remote_user", self.remote_user.map(|t| t.0)),
            ("port", "remote_port", port.map(|p| p.to_string())),
        ];
        let options = options_with(self.options, given)?;
        open(name, Destination::with_secret(secret_name, options))
    }
}

/// Opens a connection with an IAM token: at RDS, Aurora or Aurora DSQL.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::too_many_arguments)] // the SQL signature is a contract
fn connect_with_iam(
    remote_host: Option<Text>,
    remote_db: Option<Text>,
    remote_user: Option<Text>,
    remote_port: default!(Option<i32>, "5432"),
    region: default!(Option<Text>, "NULL"),
    connection_name: default!(Option<ServerText>, "'remote_conn'"),
    options: default!(Option<Text>, "NULL"),
    fail: default!(Option<bool>, true),
) -> Text {
    let request =
        IamArguments { remote_host, remote_db, remote_user, remote_port, region, connection_name, options };
    told(request.connect(), fail)
}

struct IamArguments {
    remote_host: Option<Text>,
    remote_db: Option<Text>,
    remote_user: Option<Text>,
    remote_port: Option<i32>,
    region: Option<Text>,
    connection_name: Option<ServerText>,
    options: Option<Text>,
}

impl IamArguments {
    fn connect(self) -> Result<(), Error> {
        let host = required(self.remote_host, "remote_host")?;
        let database = required(self.remote_db, "remote_db")?;
        let user = required(self.remote_user, "remote_user")?;
        let port = port_number(self.remote_port.ok_or(ArgumentError::Null("remote_port"))?)?;
        let name = connection_name(self.connection_name)?;
        let given = [
            ("host", "remote_host", Some(host)),
            ("dbname", "remote_db", Some(database)),
            ("user", "remote_user", Some(user)),
            ("port", "remote_port", Some(port.to_string())),
        ];
        let options = options_with(self.options, given)?;
        open(name, Destination::with_iam(options, optional(self.region, "region")?))
    }
}

/// The name of a new connection.
fn connection_name(name: Option<ServerText>) -> Result<ConnectionName, Error> {
    let name = name.ok_or(ArgumentError::Null("connection_name"))?;
    if name.0.is_empty() {
        return Err(ArgumentError::Empty("connection_name").into());
    }
    if name.0.len() > MAX_NAME {
        return Err(ArgumentError::ConnectionNameTooLong.into());
    }
    Ok(ConnectionName::create(name))
}

/// Opens a connection under a name.
fn open(name: ConnectionName, destination: Destination) -> Result<(), Error> {
    // The old connection of this name goes first: if anything fails from here on, nobody is to go on
    // talking to the old server by mistake.
    if connections::exists(&name) {
        connections::disconnect(&name)?;
    }
    let made = destination.connect()?;
    Ok(connections::keep(name, made).map(drop)?)
}

/// What a function that opens a connection returns, or raises unless `fail` is false.
fn told(outcome: Result<(), Error>, fail: Option<bool>) -> Text {
    match outcome {
        Ok(()) => Text("Connection established successfully".into()),
        // What the old PL/pgSQL function returned as SQLERRM, with the reason that dblink puts into
        // the detail.
        Err(error) if fail == Some(false) => Text(match error.detail() {
            Some(detail) => format!("Connection failed: {error}: {detail}"),
            None => format!("Connection failed: {error}"),
        }),
        Err(error) => Err(error).or_raise(),
    }
}
