{{- define "gatecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "gatecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "gatecar.name" . -}}
{{- /* The name of a release may contain dots; that of a Service may not. */ -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if contains $name $release -}}
{{- $release | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "gatecar.serviceAccountName" -}}
{{- default (ternary (include "gatecar.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{- /* Cluster-wide, so releases in two namespaces need different names. A namespace has no dot, so the first dot ends it. */ -}}
{{- define "gatecar.clusterRoleName" -}}
{{- printf "%s.%s-tokenreview" .Release.Namespace (include "gatecar.fullname" .) -}}
{{- end }}

{{- define "gatecar.allowlistsName" -}}
{{- printf "%s-allowlists" (include "gatecar.fullname" . | trunc 52 | trimSuffix "-") -}}
{{- end }}

{{- define "gatecar.testName" -}}
{{- printf "%s-test" (include "gatecar.fullname" . | trunc 58 | trimSuffix "-") -}}
{{- end }}

{{- define "gatecar.checkName" -}}
{{- printf "%s-check" (include "gatecar.fullname" . | trunc 57 | trimSuffix "-") -}}
{{- end }}

{{- define "gatecar.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "gatecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gatecar.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "gatecar.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "gatecar.name" . | trunc 58) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Differ from the labels of gatecar's pods, so that no Service selects this pod. */ -}}
{{- define "gatecar.checkLabels" -}}
app.kubernetes.io/name: {{ printf "%s-check" (include "gatecar.name" . | trunc 57) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "gatecar.releaseLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* All labels of an object, including its own `labels`. Called with (dict "root" $ "labels" …), and with `selector` for an object that has other selector labels. */ -}}
{{- define "gatecar.labels" -}}
{{- $own := default dict .labels -}}
{{- $release := include "gatecar.releaseLabels" .root | fromYaml -}}
{{- $selector := default (include "gatecar.selectorLabels" .root) .selector | fromYaml -}}
{{- mustMerge (dict) $selector $own $release | toYaml -}}
{{- end }}

{{- /* Metadata without the name. Called with (dict "root" $ "labels" … "annotations" …). */ -}}
{{- define "gatecar.metadata" -}}
labels:
  {{- include "gatecar.labels" . | nindent 2 }}
{{- with mustMerge (dict) (default dict .annotations) (default dict .root.Values.commonAnnotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
