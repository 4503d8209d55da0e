-- What leaves the pod. The same rules as ../vector/redact.vrl. Run over recorded reviews and events by .ci/k8s.

local function stripped(object)
    if type(object) ~= "table" then
        return object
    end
    local metadata = object.metadata
    if type(metadata) == "table" then
        -- "kubectl apply" puts the whole Secret into an annotation.
        metadata.annotations = nil
        metadata.managedFields = nil
    end
    return { metadata = metadata, redacted = true }
end

local function without_managed_fields(object)
    if type(object) == "table" and type(object.metadata) == "table" then
        object.metadata.managedFields = nil
    end
end

function redact(tag, timestamp, line)
    local request = line.request
    local reference = line.objectRef
    if type(request) ~= "table" and type(reference) ~= "table" and line.auditID == nil then
        -- Not a line of ours, or not parsed: its text stays here.
        return 2, timestamp, { unreadable = true, document_id = tostring(timestamp) }
    end
    local resource, group, subresource, kind
    if type(request) == "table" then
        local named = type(request.resource) == "table" and request.resource or {}
        resource, group, subresource = named.resource, named.group, request.subResource
        kind = type(request.kind) == "table" and request.kind.kind or nil
    elseif type(reference) == "table" then
        resource, group, subresource = reference.resource, reference.apiGroup, reference.subresource
    end
    local secret = resource == "secrets" and (group == nil or group == "") or kind == "Secret"
    local token = resource == "tokenreviews" or resource == "serviceaccounts" and subresource == "token"

    if type(request) == "table" then
        if secret or token then
            request.object = stripped(request.object)
            request.oldObject = stripped(request.oldObject)
        else
            without_managed_fields(request.object)
            without_managed_fields(request.oldObject)
        end
        line.document_id = request.uid
    else
        if secret or token then
            if line.requestObject ~= nil then
                line.requestObject = { redacted = true }
            end
            if line.responseObject ~= nil then
                line.responseObject = { redacted = true }
            end
        end
        line.document_id = tostring(line.auditID) .. "-" .. tostring(line.stage)
    end
    -- 2: the record is changed, the time is kept.
    return 2, timestamp, line
end
