drop trigger stamp_2_link_insert on public.sync_subscriptions;
create trigger stamp_2_link_insert before insert on public.sync_subscriptions
    for each row when (new.contact_id is not null or new.keap_contact_id is not null)
    execute function public.keapsync_link_contact();
drop trigger stamp_2_link_insert on public.sync_orders;
create trigger stamp_2_link_insert before insert on public.sync_orders
    for each row when (new.contact_id is not null or new.keap_contact_id is not null)
    execute function public.keapsync_link_contact();
drop trigger stamp_insert on public.sync_status;
create trigger stamp_insert before insert on public.sync_status
    for each row execute function public.keapsync_stamp_status();
comment on column public.sync_status.base_hash is 'Hash of the base in canonical form, 32 hexadecimal digits.';
