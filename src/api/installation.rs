//! What happens first when the extension is created.

use pgrx::prelude::*;
use secretlink_core::{Report, SqlState};

use crate::backend::process::report::OrRaise;
use crate::backend::text::ServerText;

/// How many objects in the way are named.
const NAMED: i64 = 20;

/// What has one of our names in the schema where the script makes its objects. What belongs to an extension
/// is named by that.
const IN_THE_WAY: &str = "
    WITH place AS (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = pg_catalog.current_schema()),
    found (class, object, name) AS (
        SELECT p.tableoid, p.oid, 'function ' || p.oid::pg_catalog.regprocedure::pg_catalog.text
        FROM pg_catalog.pg_proc p, place
        WHERE p.pronamespace = place.oid AND p.proname::pg_catalog.text = ANY ($1)
        UNION ALL
        SELECT c.tableoid, c.oid, 'relation ' || c.oid::pg_catalog.regclass::pg_catalog.text
        FROM pg_catalog.pg_class c, place
        WHERE c.relnamespace = place.oid AND c.relname::pg_catalog.text = ANY ($2) AND c.relkind <> 'c'
        UNION ALL
        SELECT t.tableoid, t.oid, 'type ' || t.oid::pg_catalog.regtype::pg_catalog.text
        FROM pg_catalog.pg_type t, place
        WHERE t.typnamespace = place.oid AND t.typname::pg_catalog.text = ANY ($2)
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
    ),
    told (name) AS (
        SELECT DISTINCT COALESCE('extension ' || pg_catalog.quote_ident(e.extname::pg_catalog.text), found.name)
        FROM found
        LEFT JOIN pg_catalog.pg_depend d
            ON d.classid = found.class AND d.objid = found.object AND d.deptype = 'e'
        LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    )
    SELECT pg_catalog.current_schema()::pg_catalog.text,
           (SELECT pg_catalog.string_agg(first.name, ', ')
            FROM (SELECT told.name FROM told ORDER BY told.name LIMIT $3) AS first),
           (SELECT pg_catalog.count(*) FROM told)";

/// Refuses to make the extension where others have objects of its names. To fail at the first of them would
/// not say which ones there are, and a function of the same name with other arguments would make calls
/// ambiguous. The script drops this function when it has called it: `sql/first.sql`.
#[pg_extern(sql = false)]
fn secretlink_look_first(functions: Vec<Option<String>>, relations: Vec<Option<String>>) {
    look(functions, relations).or_raise();
}

/// Objects are in the way.
#[derive(Debug, thiserror::Error)]
#[error("schema \"{schema}\" has objects whose names secretlink uses")]
struct NamesInUse {
    schema: String,
    names: String,
    /// How many there are besides those named.
    more: i64,
}

impl Report for NamesInUse {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("42710")
    }

    fn detail(&self) -> Option<String> {
        let others = if self.more > 0 { ", and others" } else { "" };
        Some(format!("In the way: {}{others}.", self.names))
    }

    fn hint(&self) -> Option<String> {
        let other = if self.schema == "secretlink" { "aws_secrets" } else { "secretlink" };
        Some(format!(
            "Choose a schema of its own: CREATE SCHEMA {other}; CREATE EXTENSION secretlink SCHEMA {other}."
        ))
    }
}

fn look(functions: Vec<Option<String>>, relations: Vec<Option<String>>) -> Result<(), NamesInUse> {
    let found = Spi::connect(|client| {
        let arguments = [functions.into(), relations.into(), NAMED.into()];
        client.select(IN_THE_WAY, None, &arguments)?.first().get_three::<ServerText, ServerText, i64>()
    });
    match found {
        Ok((Some(schema), Some(names), Some(count))) => Err(NamesInUse {
            schema: schema.to_utf8(),
            names: names.to_utf8(),
            more: count.saturating_sub(NAMED),
        }),
        // Nothing is there; or it could not be read, and what follows will say what is wrong.
        _ => Ok(()),
    }
}

extension_sql_file!("../../sql/first.sql", name = "first", bootstrap);
