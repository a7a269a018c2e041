-- When two values of a field mean the same: the canonical form, in SQL as in the program. It decides equality only; what is
-- written is always the original value. Absent, null, "", [] and {} are one and the same, and come out as null.
--
-- Case follows Unicode by the collation und-x-icu, whatever the database's own is; texts of ASCII alone never get that far.

create function public.keapsync_trim(value text) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
begin
    -- Everything that Unicode calls White_Space.
    return btrim(value, E' \t\n\u000B\f\r\u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000');
end
$$;
comment on function public.keapsync_trim(text) is 'The text without white space at its ends, Unicode''s included.';

create function public.keapsync_lower(value text) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
begin
    if octet_length(value) = length(value) then
        return lower(value collate "C");
    end if;
    return lower(value collate "und-x-icu");
end
$$;
comment on function public.keapsync_lower(text) is 'The text in lower case by Unicode''s rules.';

-- With all its digits: the program refuses by name what it cannot hold exactly.
create function public.keapsync_number_text(value jsonb) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
declare
    digits constant text := value #>> '{}';
begin
    if length(digits) <= 15 and strpos(digits, '.') = 0 then
        return digits;
    end if;
    return trim_scale(digits::numeric)::text;
end
$$;
comment on function public.keapsync_number_text(jsonb) is 'A JSON number as a plain decimal without needless zeros.';

-- A plain decimal without needless zeros and signs; anything else stays as it is.
create function public.keapsync_decimal(value text) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
declare
    parts text[];
    whole text;
    fraction text;
begin
    if value !~ '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)$' then
        return value;
    end if;
    parts := regexp_match(value, '^([+-]?)([0-9]*)[.]?([0-9]*)$');
    whole := coalesce(nullif(ltrim(parts[2], '0'), ''), '0');
    fraction := rtrim(parts[3], '0');
    return case when parts[1] = '-' and (whole <> '0' or fraction <> '') then '-' else '' end
        || whole || case when fraction <> '' then '.' || fraction else '' end;
end
$$;
comment on function public.keapsync_decimal(text) is 'A plain decimal without needless zeros and signs; any other text as it is.';

create function public.keapsync_is_date(value text) returns boolean
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
declare
    year integer;
begin
    if value !~ '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$' then
        return false;
    end if;
    year := left(value, 4);
    return year > 0 and right(value, 2)::integer <= case substr(value, 6, 2)
        when '02' then case when year % 4 = 0 and (year % 100 <> 0 or year % 400 = 0) then 29 else 28 end
        when '04' then 30 when '06' then 30 when '09' then 30 when '11' then 30
        else 31
    end;
end
$$;
comment on function public.keapsync_is_date(text) is 'Whether a text is a day, YYYY-MM-DD, of the years 1 to 9999.';

-- Milliseconds since 1970 of a time with an offset (RFC 3339 and ISO 8601's short forms), finer cut off towards 1970; null for
-- whatever is none, or lies outside of the years 1 to 9999.
create function public.keapsync_instant_ms(value text) returns bigint
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
declare
    parts text[];
    day text;
    hour integer;
    minute integer;
    second integer;
    fraction text;
    zone text;
    zone_seconds integer := 0;
    whole_seconds bigint;
begin
    if value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$' then
        -- As Keap writes it: cut by position, which takes a tenth of the time.
        day := left(value, 10);
        hour := substr(value, 12, 2);
        minute := substr(value, 15, 2);
        second := substr(value, 18, 2);
        fraction := rtrim(substr(value, 21), 'Z');
    else
        parts := regexp_match(value,
            '^([0-9]{4}|[+]00[0-9]{4})(?:-([0-9]{2})-([0-9]{2})|([0-9]{2})([0-9]{2}))[Tt ]'
            '([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?|([0-9]{2})(?:([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?'
            '([Zz]|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)$');
        if parts is null then
            return null;
        end if;
        day := right(parts[1], 4) || '-' || coalesce(parts[2], parts[4]) || '-' || coalesce(parts[3], parts[5]);
        hour := parts[6];
        minute := coalesce(parts[7], parts[10], '0');
        second := coalesce(parts[8], parts[11], '0');
        fraction := coalesce(parts[9], parts[12], '');
        zone := replace(parts[13], ':', '');
        if zone not in ('Z', 'z') then
            zone := rpad(zone, 7, '0');
            if substr(zone, 2, 2)::integer > 25 or substr(zone, 4, 2)::integer > 59 or substr(zone, 6, 2)::integer > 59 then
                return null;
            end if;
            zone_seconds := (left(zone, 1) || '1')::integer
                * (substr(zone, 2, 2)::integer * 3600 + substr(zone, 4, 2)::integer * 60 + substr(zone, 6, 2)::integer);
        end if;
    end if;
    if second = 60 then
        -- A leap second is the second before it.
        second := 59;
    end if;
    if not public.keapsync_is_date(day) or hour > 23 or minute > 59 or second > 59 then
        return null;
    end if;
    whole_seconds := (day::date - date '1970-01-01')::bigint * 86400 + hour * 3600 + minute * 60 + second - zone_seconds;
    -- From year 1 to the last moment that the program's clock can tell in every zone.
    if whole_seconds not between -62135596800 and 253402207200 then
        return null;
    end if;
    -- Integer division cuts off towards zero.
    return (whole_seconds * 1000000 + rpad(fraction, 9, '0')::bigint / 1000) / 1000;
end
$$;
comment on function public.keapsync_instant_ms(text) is
    'Milliseconds since 1970 of a time with an offset; null for anything else.';

create function public.keapsync_instant_text(milliseconds bigint) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
begin
    return to_char(timestamp '1970-01-01' + milliseconds / 1000 * interval '1 second' + milliseconds % 1000 * interval '1 millisecond',
        'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
end
$$;
comment on function public.keapsync_instant_text(bigint) is 'Milliseconds since 1970 as a time in UTC, RFC 3339 with milliseconds.';

create function public.keapsync_canonical_email(value text) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
declare
    domain_length constant integer := strpos(reverse(value), '@') - 1;
begin
    if domain_length < 0 then
        return value;
    end if;
    return left(value, length(value) - domain_length) || public.keapsync_lower(right(value, domain_length));
end
$$;
comment on function public.keapsync_canonical_email(text) is 'An e-mail address with its domain in lower case.';

create function public.keapsync_canonical_phone(value text) returns text
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
declare
    digits constant text := regexp_replace(value, '[^0-9]+', '', 'g');
    has_letters boolean;
begin
    if digits = '' then
        return value;
    end if;
    if octet_length(value) = length(value) then
        has_letters := value ~ '[A-Za-z]';
    else
        -- Letters, letter-like numbers and circled letters.
        has_letters := value ~ ('[[:alpha:]' || U&'\2160-\2188\24B6-\24E9]') collate "und-x-icu";
    end if;
    -- A number with letters (an extension, a vanity number) means more than its digits say.
    if has_letters then
        return public.keapsync_lower(regexp_replace(value,
            E'[ \t\n\u000B\f\r\u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]+', ' ', 'g'));
    end if;
    return case when left(value, 1) = '+' then '+' else '' end || digits;
end
$$;
comment on function public.keapsync_canonical_phone(text) is
    'A phone number''s digits with a leading plus; one with letters in lower case, with single blanks.';

create function public.keapsync_canonical_entry(value jsonb) returns jsonb
    language plpgsql
    immutable parallel safe strict
    set search_path = ''
as $$
begin
    case jsonb_typeof(value)
        when 'string' then return to_jsonb(nullif(public.keapsync_trim(value #>> '{}'), ''));
        when 'number' then return to_jsonb(public.keapsync_number_text(value)::numeric);
        when 'boolean' then return value;
        when 'null' then return null;
        else return case when value in ('[]', '{}') then null else value end;
    end case;
end
$$;
comment on function public.keapsync_canonical_entry(jsonb) is
    'The canonical form of one value of a map, or of one property of a slot; null when it holds nothing.';

create function public.keapsync_canonical_slot(slot_kind text, slot jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
declare
    form jsonb;
begin
    if jsonb_typeof(slot) is distinct from 'object' then
        return null;
    end if;
    select jsonb_object_agg(pruned.key, pruned.form)
    into form
    from (
        select entry.key, case
                when slot_kind is distinct from 'item' then public.keapsync_canonical_entry(entry.value)
                -- Keap sends a line's ids as texts and its quantity as a number, and people write either.
                when entry.key in ('price_per_unit', 'cost_per_unit', 'discount')
                    then public.keapsync_canonical('money', null, entry.value)
                when entry.key = 'quantity' then public.keapsync_canonical('integer', null, entry.value)
                when entry.key in ('name', 'description', 'notes', 'item_type', 'product_id', 'subscription_id',
                        'subscription_plan_id')
                    then public.keapsync_canonical('text', null, entry.value)
                else public.keapsync_canonical_entry(entry.value)
            end as form
        from jsonb_each(slot) as entry
        where entry.key <> case slot_kind when 'item' then 'id' else 'field' end
        -- Kept apart: taken into the outer query, the form would be made twice.
        offset 0
    ) as pruned
    where pruned.form is not null;
    if slot_kind = 'email' and jsonb_typeof(form -> 'email') = 'string' then
        form['email'] := to_jsonb(public.keapsync_canonical_email(form ->> 'email'));
    elsif slot_kind = 'phone' then
        if jsonb_typeof(form -> 'number') = 'string' then
            form['number'] := to_jsonb(public.keapsync_canonical_phone(form ->> 'number'));
        end if;
    elsif slot_kind = 'address' then
        if jsonb_typeof(form -> 'country_code') = 'string' then
            form['country_code'] := to_jsonb(upper((form ->> 'country_code') collate "und-x-icu"));
        end if;
    end if;
    return nullif(form, '{}');
end
$$;
comment on function public.keapsync_canonical_slot(text, jsonb) is
    'The canonical form of one slot''s object (email, phone, address, item) without its name; null when it holds nothing.';

create function public.keapsync_set_elements(value jsonb) returns text[]
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    if jsonb_typeof(value) is distinct from 'array' then
        return '{}';
    end if;
    return (
        select coalesce(array_agg(distinct found.element order by found.element), '{}')
        from (
            select case jsonb_typeof(item.value)
                when 'string' then public.keapsync_trim(item.value #>> '{}')
                when 'number' then public.keapsync_number_text(item.value)
            end collate "C" as element
            from jsonb_array_elements(value) as item
            offset 0
        ) as found
        where found.element <> ''
    );
end
$$;
comment on function public.keapsync_set_elements(jsonb) is 'The elements of a set: its texts and numbers, as texts, each once, in order.';

-- Of several slots with one name the last counts, as it does for Keap; objects without a name are told apart by their position
-- so that none is lost. A line's id names it as a text or as a number.
create function public.keapsync_parts(kind text, slot_kind text, value jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    if kind = 'map' then
        return case when jsonb_typeof(value) = 'object' then value else '{}' end;
    end if;
    if jsonb_typeof(value) is distinct from 'array' then
        return '{}';
    end if;
    return (
        select coalesce(jsonb_object_agg(
            case jsonb_typeof(slot.value -> named_by.key)
                when 'string' then slot.value ->> named_by.key
                when 'number' then case when slot_kind = 'item' then public.keapsync_number_text(slot.value -> named_by.key)
                    else '#' || (slot.line - 1) end
                else '#' || (slot.line - 1)
            end,
            slot.value order by slot.line), '{}')
        from jsonb_array_elements(value) with ordinality as slot (value, line)
        cross join (select case slot_kind when 'item' then 'id' else 'field' end as key) as named_by
        where jsonb_typeof(slot.value) = 'object'
    );
end
$$;
comment on function public.keapsync_parts(text, text, jsonb) is 'The parts of a slots or map field as one object, keyed by their names.';

create function public.keapsync_canonical(kind text, slot_kind text, value jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
declare
    type constant text := jsonb_typeof(value);
    content text;
    milliseconds bigint;
begin
    if type is null or type = 'null' then
        return null;
    end if;
    if kind = 'address' then
        return public.keapsync_canonical_slot('address', value);
    elsif kind = 'set' then
        return nullif(to_jsonb(public.keapsync_set_elements(value)), '[]');
    elsif kind = 'slots' then
        return (
            select jsonb_object_agg(pruned.key, pruned.form)
            from (
                select slot.key, public.keapsync_canonical_slot(slot_kind, slot.value) as form
                from jsonb_each(public.keapsync_parts(kind, slot_kind, value)) as slot
                offset 0
            ) as pruned
            where pruned.form is not null
        );
    elsif kind = 'map' then
        if type <> 'object' then
            return null;
        end if;
        return (
            select jsonb_object_agg(pruned.key, pruned.form)
            from (
                select entry.key, public.keapsync_canonical_entry(entry.value) as form from jsonb_each(value) as entry
                offset 0
            ) as pruned
            where pruned.form is not null
        );
    end if;

    if type = 'boolean' then
        return to_jsonb(value #>> '{}');
    elsif type = 'number' then
        content := public.keapsync_number_text(value);
    elsif type = 'string' then
        content := public.keapsync_trim(value #>> '{}');
        if content = '' then
            return null;
        end if;
    else
        return public.keapsync_canonical_entry(value);
    end if;
    case kind
        when 'text' then null;
        when 'email' then content := public.keapsync_canonical_email(content);
        when 'phone' then content := public.keapsync_canonical_phone(content);
        -- Keap sends dates bare or as midnight UTC; the day is what counts.
        when 'date' then content := split_part(content, 'T', 1);
        when 'instant' then
            -- A bare day is its first moment in UTC, which is how Keap sends times that are days.
            milliseconds := coalesce(public.keapsync_instant_ms(content), public.keapsync_instant_ms(content || 'T00:00:00Z'));
            if milliseconds is not null then
                content := public.keapsync_instant_text(milliseconds);
            end if;
        when 'integer', 'money' then content := public.keapsync_decimal(content);
        when 'boolean' then content := public.keapsync_lower(content);
        else
            raise exception 'there is no kind of field called %', kind
                using errcode = 'invalid_parameter_value', hint = 'Use a kind that keapsync_fields() names.';
    end case;
    return to_jsonb(content);
end
$$;
comment on function public.keapsync_canonical(text, text, jsonb) is
    'The canonical form of a field''s value: two values mean the same when their forms are equal. Null when the value is absent.';

do $$
declare
    signature text;
begin
    foreach signature in array array[
        'trim(text)', 'lower(text)', 'number_text(jsonb)', 'decimal(text)', 'is_date(text)', 'instant_ms(text)', 'instant_text(bigint)',
        'canonical_email(text)', 'canonical_phone(text)', 'canonical_entry(jsonb)', 'canonical_slot(text, jsonb)',
        'set_elements(jsonb)', 'parts(text, text, jsonb)', 'canonical(text, text, jsonb)']
    loop
        perform public.keapsync_protect_function(('public.keapsync_' || signature)::regprocedure);
        execute format('grant execute on function public.keapsync_%s to keapsync_engine, keapsync_reader', signature);
    end loop;
end
$$;
