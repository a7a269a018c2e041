//! What the catalog of a migrated database says, as far as people want to read it.

use anyhow::{Context as _, Result};
use tokio_postgres::{Client, Row};

/// Tables and views of the schema `public`, without partitions.
const RELATIONS: &str = "
select class.oid, class.relname, class.relkind in ('v', 'm') as is_view, obj_description(class.oid, 'pg_class') as comment
from pg_class class
where class.relnamespace = 'public'::regnamespace and class.relkind in ('r', 'p', 'v', 'm') and not class.relispartition
order by is_view, class.relname";

/// Columns of one relation. A view's column that says nothing of itself says what the column it shows says.
const COLUMNS: &str = "
select attribute.attname,
    format_type(attribute.atttypid, attribute.atttypmod) as type,
    not attribute.attnotnull as may_be_null,
    case when attribute.attidentity <> '' then 'identity'
         when attribute.attgenerated <> '' then 'generated: ' || pg_get_expr(def.adbin, def.adrelid)
         else pg_get_expr(def.adbin, def.adrelid) end as initial,
    coalesce(col_description(attribute.attrelid, attribute.attnum), (
        select min(col_description(depend.refobjid, depend.refobjsubid))
        from pg_rewrite rewrite
        join pg_depend depend on depend.classid = 'pg_rewrite'::regclass and depend.objid = rewrite.oid
            and depend.refclassid = 'pg_class'::regclass and depend.refobjsubid > 0
        join pg_attribute source on source.attrelid = depend.refobjid and source.attnum = depend.refobjsubid
        where rewrite.ev_class = attribute.attrelid and source.attname = attribute.attname
    )) as comment,
    exists (select from pg_constraint key where key.conrelid = attribute.attrelid and key.contype = 'p'
            and attribute.attnum = any (key.conkey)) as in_primary_key,
    exists (select from pg_constraint key where key.conrelid = attribute.attrelid and key.contype = 'u'
            and attribute.attnum = any (key.conkey)) as in_unique_key
from pg_attribute attribute
left join pg_attrdef def on def.adrelid = attribute.attrelid and def.adnum = attribute.attnum
where attribute.attrelid = $1 and attribute.attnum > 0 and not attribute.attisdropped
order by attribute.attnum";

/// Constraints of one relation that are no index of their own.
const CONSTRAINTS: &str = "
select conname::text || ': ' || pg_get_constraintdef(oid) from pg_constraint
where conrelid = $1 and contype in ('c', 'f') order by contype desc, conname";

/// Indexes of one relation, keys included.
const INDEXES: &str = "
select regexp_replace(pg_get_indexdef(indexrelid), '^CREATE (UNIQUE )?INDEX (.*) ON (ONLY )?[^ ]+ USING ', '\\2: \\1')
from pg_index where indrelid = $1 order by indexrelid::regclass::text";

/// Triggers of one relation.
const TRIGGERS: &str = "
select tgname::text || ': ' ||
    case when tgtype & 2 <> 0 then 'before ' when tgtype & 64 <> 0 then 'instead of ' else 'after ' end ||
    array_to_string(array_remove(array[
        case when tgtype & 4 <> 0 then 'insert' end, case when tgtype & 16 <> 0 then 'update' end,
        case when tgtype & 8 <> 0 then 'delete' end, case when tgtype & 32 <> 0 then 'truncate' end], null), ' or ') ||
    ', ' || tgfoid::regproc::text
from pg_trigger where tgrelid = $1 and not tgisinternal order by tgname";

/// Policies of one relation.
const POLICIES: &str = "
select policyname::text || ': ' || lower(cmd) || ' for ' || array_to_string(roles, ', ')
from pg_policies join pg_class class on class.relname = tablename and class.relnamespace = schemaname::regnamespace
where class.oid = $1 order by policyname";

/// Foreign keys, each column by itself.
const FOREIGN_KEYS: &str = "
select source.relname::text, attribute.attname::text, case when target.relnamespace = 'public'::regnamespace
    then target.relname::text else target.relnamespace::regnamespace || '_' || target.relname end
from pg_constraint key
join pg_class source on source.oid = key.conrelid and not source.relispartition
    and source.relnamespace = 'public'::regnamespace
join pg_class target on target.oid = key.confrelid
cross join unnest(key.conkey) as number
join pg_attribute attribute on attribute.attrelid = key.conrelid and attribute.attnum = number
where key.contype = 'f' and key.conparentid = 0
order by 1, 2";

/// Functions of the schema `public`, without those of extensions.
const FUNCTIONS: &str = "
select proc.oid::regprocedure::text, pg_get_function_arguments(proc.oid), pg_get_function_result(proc.oid),
    proc.prosecdef, obj_description(proc.oid, 'pg_proc'),
    coalesce((select string_agg(distinct grantee.rolname, ', ' order by grantee.rolname)
              from aclexplode(proc.proacl) acl join pg_roles grantee on grantee.oid = acl.grantee
              where acl.privilege_type = 'EXECUTE' and acl.grantee <> proc.proowner), '')
from pg_proc proc
where proc.pronamespace = 'public'::regnamespace and proc.prokind in ('f', 'p')
    and not exists (select from pg_depend depend where depend.classid = 'pg_proc'::regclass and depend.objid = proc.oid
                    and depend.deptype = 'e')
order by 1";

/// Everything that is described.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Tables first, then views, each by name.
    pub relations: Vec<Relation>,
    /// By name.
    pub functions: Vec<Function>,
    /// By table and column.
    pub foreign_keys: Vec<ForeignKey>,
}

/// A table or view.
#[derive(Debug, Default)]
pub(super) struct Relation {
    pub name: String,
    pub is_view: bool,
    pub comment: Option<String>,
    pub columns: Vec<Column>,
    pub constraints: Vec<String>,
    pub indexes: Vec<String>,
    pub triggers: Vec<String>,
    pub policies: Vec<String>,
}

/// A column of a table or view.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub name: String,
    pub data_type: String,
    pub may_be_null: bool,
    pub initial: Option<String>,
    pub comment: Option<String>,
    pub in_primary_key: bool,
    pub in_unique_key: bool,
}

/// A function or procedure.
#[derive(Debug, Default)]
pub(super) struct Function {
    pub signature: String,
    pub arguments: String,
    pub result: Option<String>,
    pub runs_as_owner: bool,
    pub comment: Option<String>,
    pub executable_by: String,
}

/// A column that refers to another table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub table: String,
    pub column: String,
    pub target: String,
}

impl Catalog {
    /// Reads the catalog.
    pub(super) async fn read(client: &Client) -> Result<Self> {
        let mut relations = Vec::new();
        for row in client.query(RELATIONS, &[]).await.context("the relations cannot be read")? {
            let oid: u32 = row.get(0);
            relations.push(Relation {
                name: row.get(1),
                is_view: row.get(2),
                comment: row.get(3),
                columns: client.query(COLUMNS, &[&oid]).await?.iter().map(column).collect(),
                constraints: lines(client, CONSTRAINTS, oid).await?,
                indexes: lines(client, INDEXES, oid).await?,
                triggers: lines(client, TRIGGERS, oid).await?,
                policies: lines(client, POLICIES, oid).await?,
            });
        }
        let functions = client.query(FUNCTIONS, &[]).await.context("the functions cannot be read")?;
        let foreign_keys =
            client.query(FOREIGN_KEYS, &[]).await.context("the foreign keys cannot be read")?;
        Ok(Self {
            relations,
            functions: functions.iter().map(function).collect(),
            foreign_keys: foreign_keys
                .iter()
                .map(|row| ForeignKey { table: row.get(0), column: row.get(1), target: row.get(2) })
                .collect(),
        })
    }

    /// Names what nobody has described.
    pub(super) fn without_comment(&self) -> Vec<String> {
        let is_missing = |comment: &Option<String>| comment.as_deref().unwrap_or_default().trim().is_empty();
        let mut missing = Vec::new();
        for relation in &self.relations {
            let kind = if relation.is_view { "view" } else { "table" };
            if is_missing(&relation.comment) {
                missing.push(format!("{kind} {}", relation.name));
            }
            let columns = relation.columns.iter().filter(|column| is_missing(&column.comment));
            missing.extend(columns.map(|column| format!("column {}.{}", relation.name, column.name)));
        }
        let functions = self.functions.iter().filter(|function| is_missing(&function.comment));
        missing.extend(functions.map(|function| format!("function {}", function.signature)));
        missing
    }
}

fn column(row: &Row) -> Column {
    Column {
        name: row.get(0),
        data_type: row.get(1),
        may_be_null: row.get(2),
        initial: row.get(3),
        comment: row.get(4),
        in_primary_key: row.get(5),
        in_unique_key: row.get(6),
    }
}

fn function(row: &Row) -> Function {
    Function {
        signature: row.get(0),
        arguments: row.get(1),
        result: row.get(2),
        runs_as_owner: row.get(3),
        comment: row.get(4),
        executable_by: row.get(5),
    }
}

async fn lines(client: &Client, sql: &str, oid: u32) -> Result<Vec<String>> {
    let rows = client.query(sql, &[&oid]).await.context("the catalog cannot be read")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_has_no_comment_is_named() {
        let described = Some("What it is.".to_owned());
        let column = |name: &str, comment| Column { name: name.to_owned(), comment, ..Column::default() };
        let catalog = Catalog {
            relations: vec![
                Relation {
                    name: "sync_things".to_owned(),
                    comment: described.clone(),
                    columns: vec![column("id", described.clone()), column("colour", Some(" ".to_owned()))],
                    ..Relation::default()
                },
                Relation { name: "all_things".to_owned(), is_view: true, ..Relation::default() },
            ],
            functions: vec![Function { signature: "mend()".to_owned(), ..Function::default() }],
            foreign_keys: Vec::new(),
        };
        assert_eq!(
            catalog.without_comment(),
            ["column sync_things.colour", "view all_things", "function mend()"]
        );
    }
}
