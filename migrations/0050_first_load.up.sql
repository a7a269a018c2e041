-- What the engine's statement for pages of new records says by itself, no trigger has to say again for each row.

drop trigger stamp_insert on public.sync_status;
create trigger stamp_insert before insert on public.sync_status
    for each row when (new.supabase_id is distinct from new.entity_id)
    execute function public.keapsync_stamp_status();

-- A contact that a person names is checked. One that the engine names was found by its Keap id a moment ago, in the same statement
-- and of the same account; what it did not find is looked for once more, because that contact may have come since.
drop trigger stamp_2_link_insert on public.sync_orders;
create trigger stamp_2_link_insert before insert on public.sync_orders
    for each row when (
        new.contact_id is null and new.keap_contact_id is not null
        or new.contact_id is not null and session_user <> 'keapsync_engine')
    execute function public.keapsync_link_contact();
drop trigger stamp_2_link_insert on public.sync_subscriptions;
create trigger stamp_2_link_insert before insert on public.sync_subscriptions
    for each row when (
        new.contact_id is null and new.keap_contact_id is not null
        or new.contact_id is not null and session_user <> 'keapsync_engine')
    execute function public.keapsync_link_contact();

comment on column public.sync_status.base_hash is
    'Hash of the base in canonical form, 32 hexadecimal digits; null while the row is the base.';
