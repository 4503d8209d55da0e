{{- define "name" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains "kube-audit-rest" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-kube-audit-rest" (.Release.Name | trunc 34 | trimSuffix "-") }}
{{- end -}}
{{- end -}}

{{- define "labels" -}}
app: {{ include "name" . }}
app.kubernetes.io/name: kube-audit-rest
app.kubernetes.io/component: audit-log
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "secret" -}}
{{ .Values.certificate.secretName | default (include "name" .) }}
{{- end -}}

{{- define "service" -}}
service:
  name: {{ include "name" . }}
  namespace: {{ .Release.Namespace | quote }}
  {{- if not .Values.sources.enabled }}
  path: /log-request
  {{- end }}
  port: 443
{{- with .Values.certificate.caBundle }}
caBundle: {{ . }}
{{- end }}
{{- end -}}

{{- /* ["a", "b"], as CEL reads it */ -}}
{{- define "list" -}}
{{- $quoted := list -}}
{{- range . }}{{ $quoted = append $quoted (quote .) }}{{ end -}}
[{{ join ", " $quoted }}]
{{- end -}}

{{- /* What is never refused. Both webhooks use it, one of them with a "!" before it. */ -}}
{{- define "exempt" -}}
{{- $namespaces := prepend .Values.failClosed.exemptNamespaces .Release.Namespace -}}
{{- $groups := list "system:nodes" "system:bootstrappers" "system:serviceaccounts:kube-system" (printf "system:serviceaccounts:%s" .Release.Namespace) -}}
{{- range .Values.failClosed.exemptServiceAccountsOf }}{{ $groups = append $groups (printf "system:serviceaccounts:%s" .) }}{{ end -}}
((has(request.namespace) && request.namespace in {{ include "list" $namespaces }}) || (request.resource.group == "coordination.k8s.io" && request.resource.resource == "leases") || (has(request.userInfo.username) && request.userInfo.username in {{ include "list" .Values.failClosed.exemptUsers }}) || (has(request.userInfo.groups) && request.userInfo.groups.exists(group, group in {{ include "list" $groups }})))
{{- end -}}

{{- define "not-heartbeats" -}}
- name: not-a-lease-renewal
  expression: >-
    !(request.operation == "UPDATE" && request.resource.group == "coordination.k8s.io"
    && request.resource.resource == "leases")
- name: not-a-node-s-own-status
  expression: >-
    !(request.resource.group == "" && request.resource.resource == "nodes"
    && has(request.subResource) && request.subResource == "status"
    && has(request.userInfo.groups) && "system:nodes" in request.userInfo.groups)
{{- end -}}

{{- define "every-write" -}}
- operations: ["*"]
  apiGroups: ["*"]
  apiVersions: ["*"]
  resources: ["*/*"]
  scope: "*"
{{- end -}}

{{- /* Values that contradict each other, in words: a schema knows none. */ -}}
{{- define "refuse-what-does-not-fit" -}}
{{- $from := .Values.certificate.from -}}
{{- if not (regexMatch "^[a-z]" (include "name" .)) -}}
{{- fail (printf "a Service's name begins with a letter, and %s does not: set fullnameOverride" (include "name" .)) -}}
{{- end -}}
{{- if and .Values.hostNetwork (eq (int .Values.serverPort) 10250) -}}
{{- fail "hostNetwork: 10250 is the kubelet's port on each node; set serverPort to another (8443)" -}}
{{- end -}}
{{- if or (eq (int .Values.serverPort) 55555) (and .Values.auditWebhook.enabled (eq (int .Values.serverPort) 8080)) -}}
{{- fail (printf "serverPort: %d is the port of the metrics or of auditWebhook" (int .Values.serverPort)) -}}
{{- end -}}
{{- if and (eq $from "script") .Values.certificate.secretName (ne .Values.certificate.secretName (include "name" .)) -}}
{{- fail (printf "certificate.secretName: certificate.sh makes the Secret %s; for one of your own set certificate.from to secret" (include "name" .)) -}}
{{- end -}}
{{- if and (ne $from "secret") .Values.certificate.caBundle -}}
{{- fail (printf "certificate.caBundle: with certificate.from=%s somebody else writes it, and each upgrade would undo that; it is for secret alone" $from) -}}
{{- end -}}
{{- if and (ne $from "certManager") .Values.certificate.issuerRef -}}
{{- fail (printf "certificate.issuerRef: there is no issuer with certificate.from=%s; it is for certManager alone" $from) -}}
{{- end -}}
{{- if and .Values.priorityClass.create .Values.priorityClass.name -}}
{{- fail "priorityClass: create makes a class with the release's name; name is for one that is there: set one of them" -}}
{{- end -}}
{{- end -}}
