-- `http-request lua.gatecar <where> <prefix>` calls gatecar for a request.
-- If gatecar allows it, this sets the identity headers, which begin with <prefix>, and
-- `txn.gatecar_allowed`. If gatecar denies it, the client gets gatecar's response. In all other
-- cases, including an error in this file, the variable stays unset, and haproxy.cfg rejects the
-- request.

-- Response headers of gatecar that a denied client receives.
local SHOWN = { 'cache-control', 'content-type', 'retry-after', 'www-authenticate', 'x-gatecar-reason' }

-- Longer than all timeouts of the listener `gatecar` in haproxy.cfg together, so that those apply
-- first.
local TIMEOUT_MS = 10000

-- Returns all lines of a header. HAProxy counts them from 0.
local function lines(headers, name)
    local found, list = headers[name] or {}, {}
    for at = 0, #found do
        list[#list + 1] = found[at]
    end
    return list
end

core.register_action('gatecar', { 'http-req' }, function(txn, where, prefix)
    local headers = txn.http:req_get_headers()
    local answer = core.httpclient():get {
        url = 'http://gatecar/auth',
        dst = where,
        timeout = TIMEOUT_MS,
        -- Only these client headers. With the client's Transfer-Encoding or Content-Length, gatecar
        -- would wait for a body that never comes. Every line of Authorization is sent: gatecar
        -- rejects a request with two.
        headers = {
            ['authorization'] = lines(headers, 'authorization'),
            ['x-request-id'] = lines(headers, 'x-request-id'),
            ['x-real-ip'] = { txn.sf:src() },
            ['x-original-method'] = { txn.sf:method() },
            ['x-original-uri'] = { txn.sf:path():sub(1, 256) },
        },
    }

    if answer.status == 200 then
        local identity = {}
        for name in pairs(answer.headers) do
            local value = lines(answer.headers, name)[1]
            if name:sub(1, #prefix) == prefix and value ~= '' then
                identity[name] = value
                txn.http:req_set_header(name, value)
            end
        end
        -- If a header does not fit (tune.maxrewrite), HAProxy does not set it and reports no error.
        headers = txn.http:req_get_headers()
        for name, value in pairs(identity) do
            if lines(headers, name)[1] ~= value then
                return
            end
        end
        txn:set_var('txn.gatecar_allowed', true)
    elseif answer.status == 401 or answer.status == 403 or answer.status == 503 then
        local reply = txn:reply { status = answer.status, body = answer.body }
        for _, name in ipairs(SHOWN) do
            for _, value in ipairs(lines(answer.headers, name)) do
                reply:add_header(name, value)
            end
        end
        txn:done(reply)
    end
end, 2)
