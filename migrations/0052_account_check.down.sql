alter table public.sync_contacts
    add constraint sync_contacts_account_id_fkey foreign key (account_id) references public.sync_accounts (account_id);
alter table public.sync_orders
    add constraint sync_orders_account_id_fkey foreign key (account_id) references public.sync_accounts (account_id);
alter table public.sync_tags
    add constraint sync_tags_account_id_fkey foreign key (account_id) references public.sync_accounts (account_id);
alter table public.sync_subscriptions
    add constraint sync_subscriptions_account_id_fkey foreign key (account_id) references public.sync_accounts (account_id);
drop trigger keep_account_update on public.sync_accounts;
drop trigger keep_account_delete on public.sync_accounts;
drop trigger check_account_update on public.sync_subscriptions;
drop trigger check_account_update on public.sync_tags;
drop trigger check_account_update on public.sync_orders;
drop trigger check_account_update on public.sync_contacts;
drop trigger check_account_insert on public.sync_subscriptions;
drop trigger check_account_insert on public.sync_tags;
drop trigger check_account_insert on public.sync_orders;
drop trigger check_account_insert on public.sync_contacts;
drop function public.keapsync_keep_account();
drop function public.keapsync_check_account();
