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
app.kubernetes.io/instance: {{ .Release.Name }}
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
  namespace: {{ .Release.Namespace }}
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
